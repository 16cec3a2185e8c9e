"""Carrying out the stages of finetuning."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from nlsim.corpus.pieces import Pieces
from nlsim.errors import DataError
from nlsim.explain.explainer import read_pieces
from nlsim.explain.table import read_explanations
from nlsim.finetune.examples import Example, ExampleMaker, example_table, read_examples
from nlsim.finetune.judge import judge
from nlsim.finetune.train import train
from nlsim.latents.arrays import cuts
from nlsim.latents.index import LatentIndex
from nlsim.lm.adapter import CARD
from nlsim.lm.loading import load_tokenizer
from nlsim.simulate.predictions import derangement
from nlsim.simulate.taught import template_of

if TYPE_CHECKING:
    from nlsim.pipeline.stage import StageContext
    from nlsim.store.artifact import Artifact


def make_examples(context: StageContext) -> None:
    """Write the examples of this shard's latents."""
    config, inputs = context.config, context.inputs
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    explained = [one for one in read_explanations(inputs["explain"]) if one.status == "ok"]
    if len(explained) < 2:
        raise DataError("finetuning needs at least two explained latents", "choose more in the section latents")
    other = derangement(len(explained), config.seed)
    first, last = cuts(len(explained), context.shards)[context.shard : context.shard + 2]
    document_R = np.asarray(inputs["tokens"].arrays(0, "rows")["document"], np.int64)
    names = inputs["tokens"].table(0, "documents").column("name").to_pylist()
    lm = config.language_model("simulate")
    pieces = Pieces(read_pieces(inputs["tokens"]))
    maker = ExampleMaker(config, index, pieces, load_tokenizer(lm), document_R, names)
    found: list[Example] = []
    for i in range(first, last):
        found += maker.make(explained[i].latent, explained[i].text, explained[other[i]].text)
        context.progress(i + 1 - first, last - first, "latents")
    learned = [example for example in found if example.group == "learn"]
    context.output.table("examples", example_table(found))
    context.output.json(
        "facts",
        {
            "choices": list(maker.choices),
            "template": template_of(config.simulate, lm),
            "coder": config.coder.path,
            "latents": sorted({example.latent for example in learned}),
            "documents": sorted({names[example.document] for example in learned}),
        },
    )
    context.output.count(examples=len(found), learned=len(learned))


def make_adapter(context: StageContext) -> None:
    """Train, and write the adapter with its card."""
    from nlsim.finetune.lora import Tuned

    config = context.config
    facts, examples = read_facts(context.inputs["examples"])
    lm = config.language_model("simulate").model_copy(update={"adapter": None})
    tuned = Tuned(lm, config.finetune, config.seed)
    curve = train(
        tuned, examples, facts["choices"], config.finetune, config.seed, context.output,
        lambda done, total: context.progress(done, total, "steps"),
    )  # fmt: skip
    for name, data in tuned.files().items():
        context.output.bytes(name, data)
    points = [[point.step, None if point.learned != point.learned else point.learned, point.judged] for point in curve]
    card = {**facts, "model": lm.model, "shuffled": config.finetune.shuffle, "curve": points}
    context.output.bytes(CARD, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    context.output.count(steps=curve[-1].step, examples=len(examples))


def make_judgement(context: StageContext) -> None:
    """Ask base and finetuned model the held-out questions."""
    config = context.config
    facts, examples = read_facts(context.inputs["examples"])
    lm = config.language_model("simulate").model_copy(update={"adapter": None})
    with TemporaryDirectory() as folder:
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            shutil.copy(context.inputs["train"].path(0, name), Path(folder) / name)
        models = {"base": lm, "finetuned": lm.model_copy(update={"adapter": folder})}
        rows = judge(
            models, examples, facts["choices"], config.calibrate.least_mass,
            lambda done, total: context.progress(done, total, "questions"),
        )  # fmt: skip
    context.output.json("metrics", rows)
    context.output.count(questions=sum(example.group == "judge" for example in examples))


def read_facts(made: Artifact) -> tuple[dict[str, Any], list[Example]]:
    """The facts of all shards, and their examples. Raises DataError when shards disagree about the prompts."""
    parts = [made.json(shard, "facts") for shard in range(made.shards)]
    for one, another in pairwise(parts):
        if one["choices"] != another["choices"] or one["template"] != another["template"]:
            raise DataError("shards of the examples were made with different prompts", "make them again")
    facts = dict(parts[0])
    for name in ("latents", "documents"):
        facts[name] = sorted({entry for part in parts for entry in part[name]})
    return facts, [example for shard in range(made.shards) for example in read_examples(made.table(shard, "examples"))]
