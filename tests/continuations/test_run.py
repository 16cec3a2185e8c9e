"""The stage `continue` on a run with planted truth: a tiny model, its coder, and predictions that are the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from reconstruct.planted import CONTEXT, VOCAB, WIDTH, Run, planted_run

from nlsim.coders.load import load_coder
from nlsim.config import parse_config
from nlsim.continuations import predict
from nlsim.continuations.patched import Choice, Patcher
from nlsim.continuations.stage import Continue
from nlsim.corpus.splits import Split
from nlsim.latents.cache_stage import models
from nlsim.latents.rows import TokenRows
from nlsim.lm.engine import Choices
from nlsim.lm.prompts import PromptTree, leaf
from nlsim.pipeline.stage import StageContext
from nlsim.reconstruct.conditions import Condition
from nlsim.reconstruct.measure import batch_of
from nlsim.reconstruct.patch import run_batch
from nlsim.simulate.prompts import Text
from nlsim.store.artifact import Artifact
from nlsim.subject.model import Subject

PROMPT, TOKENS = 6, 10


class Oracle:
    """Prompts and engine in one: answers with the digits of the true activations of the text's own context."""

    choices = tuple(range(10))

    def __init__(self, run: Run, subject: Subject, texts: Sequence[Text]) -> None:
        self.run, self.texts = run, texts
        self.coder = load_coder(run.config.coder, "cpu")
        self.subject = subject
        self.scale_L = np.maximum(run.index.table.robust_max_M, 1e-6)

    def trees(self, explanations: Sequence[str]) -> Iterator[PromptTree]:
        for explanation in explanations:
            yield leaf([int(explanation)])

    def choose(self, trees: Iterator[PromptTree], _choices: Sequence[int]) -> Iterator[Choices]:
        level_RM = np.concatenate([self.levels(text) for text in self.texts])
        for tree in trees:
            share_RC = np.full((len(level_RM), 10), 0.002)
            share_RC[np.arange(len(level_RM)), level_RM[:, int(tree.tokens[0])]] = 1 - 0.018
            yield Choices(np.log(share_RC).astype(np.float32))

    def levels(self, text: Text) -> np.ndarray:
        tokens = np.array([[0, *(ord(piece) - 0x4E00 for piece in text.pieces)]])
        seen = self.subject.capture(tokens, np.array([tokens.shape[1]]), "layers.1.mlp").input_BTD[0, 1:]
        codes = self.coder.encode(seen)
        code_NM = np.zeros((len(seen), WIDTH), np.float32)
        np.put_along_axis(code_NM, codes.index_NK.numpy(), codes.value_NK.numpy(), 1)
        level_NM = np.where(code_NM > 0, np.clip(np.ceil(9 * code_NM / self.scale_L), 1, 9), 0).astype(int)
        return level_NM[list(text.reads)]


def continued(run: Run, name: str, shards: Sequence[int] = (0, 1), **settings: Any) -> Artifact:
    """Some shards of the stage, under settings of its section."""
    config = parse_config({**run.config.model_dump(), "continuations": {"documents": max(shards) + 1, **settings}})
    stage = Continue(["explain", "calibrate"])
    artifact = Artifact(run.artifacts["tokens"].objects, stage.name, name, stage.shards(config))
    inputs = {needed: run.artifacts[needed] for needed in stage.inputs}
    for shard in shards:
        writer = artifact.begin(shard)
        stage.execute(StageContext(config, shard, artifact.shards, inputs, writer, lambda *_: None))
        writer.commit()
    return artifact


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The planted run with what it lacks: texts of tokens, documents, explanations, and an engine that knows."""
    run = planted_run(tmp_path_factory.mktemp("planted"))
    store, rows = run.artifacts["tokens"].objects, run.artifacts["tokens"].arrays(0, "rows")
    run.artifacts["tokens"] = Artifact(store, "tokens", "named", 1)
    writer = run.artifacts["tokens"].begin(0)
    writer.arrays("rows", dict(rows))
    names = [f"document {number}" for number in range(int(rows["document"].max()) + 1)]
    writer.table("documents", pa.table({"document": range(len(names)), "name": names}))
    pieces = [chr(0x4E00 + token).encode() for token in range(VOCAB)]
    special = [token == 0 for token in range(VOCAB)]
    writer.table("pieces", pa.table({"id": range(VOCAB), "bytes": pieces, "special": special}))
    writer.commit()
    run.artifacts["explain"] = Artifact(store, "explain", "explain", 1)
    writer = run.artifacts["explain"].begin(0)
    status = ["failed" if latent in run.unexplained else "ok" for latent in range(WIDTH)]
    columns = {"latent": list(range(WIDTH)), "text": [str(latent) for latent in range(WIDTH)], "status": status}
    none = {"examples": [[0]] * WIDTH, "prompt_hash": [""] * WIDTH}
    writer.table("explanations", pa.table({**columns, **none}))
    writer.commit()
    subject, _ = models(run.config.subject, run.config.coder)
    with pytest.MonkeyPatch.context() as patch:
        made: list[Oracle] = []

        def prompts(_settings: Any, _lm: Any, _engine: Any, texts: Sequence[Text]) -> Oracle:
            made.append(Oracle(run, subject, texts))
            return made[-1]

        class Engine:
            def choose(self, trees: Any, choices: Any) -> Iterator[Choices]:
                return made[-1].choose(trees, choices)

        patch.setattr(predict, "simulation_prompts", prompts)
        patch.setattr(predict, "cached_engine", lambda _lm: Engine())
        yield run


@pytest.fixture(scope="module")
def made(run: Run) -> Artifact:
    return continued(run, "made", prompt_tokens=PROMPT, tokens=TOKENS, fractions=[0.25, 0.75], likeliest=3)


def column(artifact: Artifact, condition: str, name: str = "kl", shard: int = 0, text: int = 0) -> np.ndarray:
    lines = artifact.table(shard, "steps").to_pylist()
    return np.array([line[name] for line in lines if (line["text"], line["condition"]) == (text, condition)])


def test_the_clean_condition_is_the_unpatched_model_exactly(run: Run, made: Artifact) -> None:
    model = models(run.config.subject, run.config.coder)[0].model
    rows = TokenRows.of(run.artifacts["tokens"])
    for shard in range(2):
        prompt = made.json(shard, "prompt")
        text = prompt["texts"][0]
        assert prompt["begun"] == PROMPT + 1
        assert len(text) <= PROMPT + 1 + TOKENS
        starts = rows.tokens_RT[rows.split_R == Split.EVALUATE, : PROMPT + 1].tolist()
        assert text[: PROMPT + 1] in starts
        with torch.no_grad():
            logits_SV = model(torch.tensor([text])).logits[0, :-1]
        assert not column(made, "clean", "kl", shard).any()
        assert column(made, "clean", "chosen", shard).tolist() == logits_SV.argmax(-1).tolist()
        assert text[PROMPT + 1 :] == logits_SV.argmax(-1).tolist()[PROMPT:]
        np.testing.assert_allclose(
            column(made, "clean", "probability", shard), logits_SV.softmax(-1).topk(3).values, rtol=1e-5
        )


def test_prompts_are_of_different_documents(made: Artifact) -> None:
    assert made.json(0, "prompt")["source"] != made.json(1, "prompt")["source"]


def test_all_true_latents_lose_what_the_losses_say_the_coder_loses(run: Run, made: Artifact) -> None:
    """The same text through `reconstruct`: KL of the condition `coder` at the same positions."""
    subject, coder = models(run.config.subject, run.config.coder)
    text = np.array(made.json(0, "prompt")["texts"][0])
    rows = TokenRows(text[None], np.array([len(text)]), np.array([int(Split.EVALUATE)]))
    batch = batch_of(rows, np.arange(1, len(text) - 1))
    measured = run_batch(subject, coder, batch, np.arange(WIDTH), [Condition("coder")], lambda _, truth: truth, None)
    np.testing.assert_allclose(column(made, "coder")[1:], measured[0].kl_P, rtol=1e-3, atol=1e-6)
    assert column(made, "coder")[0] == 0, "nothing is patched at BOS"


def test_true_latents_and_the_coders_error_are_the_clean_model(run: Run, made: Artifact) -> None:
    """What is rebuilt from all true latents differs from what the module wrote by the coder's error alone."""
    subject, coder = models(run.config.subject, run.config.coder)
    patcher = Patcher(subject, coder, np.arange(WIDTH), Choice(0.0, (0,)), 3)
    reading = patcher.read(np.array(made.json(0, "prompt")["texts"][0]))
    rebuilt_BTD = patcher._output(reading, reading.truth_SL)
    written_BTD = reading.state.captured.output_BTD
    error_SD = written_BTD[0, 1:-1] - coder.decode_dense(reading.code_SM, reading.read_SD)[1:]
    rebuilt_BTD[0, 1:-1] += error_SD
    torch.testing.assert_close(rebuilt_BTD, written_BTD)


def test_what_is_nearer_to_the_truth_loses_less(made: Artifact) -> None:
    labels = set(made.json(0, "prompt")["forced"])
    assert labels >= {"coder", "none", "top:0.25", "random:0.75", "help:base", "simulated:base"}
    kl = {label: sum(float(column(made, label, shard=shard).mean()) for shard in (0, 1)) for label in labels}
    assert max(kl["coder"], kl["top:0.75"]) < kl["none"]
    assert kl["help:base"] < kl["none"], "exact explanations find all but the two unexplained latents"
    assert kl["simulated:base"] < kl["none"]


def test_found_latents_are_the_true_ones_and_counted(run: Run, made: Artifact) -> None:
    active = {(line["text"], line["step"], line["latent"]) for line in made.table(0, "active").to_pylist()}
    counts = made.table(0, "counts").to_pylist()
    assert sum(line["found"] for line in counts) > 0.9 * sum(line["found"] + line["missed"] for line in counts)
    for line in counts:
        here = [latent for text, step, latent in active if (text, step) == (line["text"], line["step"])]
        assert line["found"] + line["missed"] + line["unasked"] == len(here)
        assert line["asked"] == WIDTH - len(run.unexplained)
        assert line["unasked"] == len(set(here) & set(run.unexplained))
    said = made.table(0, "predicted").to_pylist()
    assert not {line["latent"] for line in said} & set(run.unexplained)


def test_texts_of_their_own_are_those_written_token_by_token(run: Run, made: Artifact) -> None:
    """The patched model as a plain hook on the module, asked for one token after the other without any cache."""
    subject, coder = models(run.config.subject, run.config.coder)
    mlp = subject.blocks[1].mlp

    def hook(_module: Any, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        read_SD = args[0][0, 1:]
        code_SM = torch.zeros(len(read_SD), WIDTH)
        codes = coder.encode(read_SD)
        most = max(1, int(np.floor(0.25 * codes.value_NK.shape[1] + 0.5)))
        code_SM.scatter_(1, codes.index_NK[:, :most], codes.value_NK[:, :most])
        changed[0, 1:] = coder.decode_dense(code_SM, read_SD)
        return changed

    for shard in range(2):
        prompt = made.json(shard, "prompt")
        tokens = prompt["texts"][0][: PROMPT + 1]
        handle = mlp.register_forward_hook(hook)
        with torch.no_grad():
            while len(tokens) < PROMPT + 1 + TOKENS and tokens[-1] != 0:
                tokens = [*tokens, int(subject.model(torch.tensor([tokens])).logits[0, -1].argmax())]
        handle.remove()
        assert prompt["texts"][prompt["free"]["top:0.25"]] == tokens
        assert prompt["texts"][prompt["free"]["coder"]][: PROMPT + 1] == tokens[: PROMPT + 1]


def test_every_text_has_the_steps_of_those_who_wrote_it(made: Artifact) -> None:
    prompt = made.json(0, "prompt")
    assert set(prompt["free"]) == set(prompt["forced"]) - {"clean"}
    lengths = {(line["text"], line["condition"]): 0 for line in made.table(0, "steps").to_pylist()}
    for label, text in prompt["free"].items():
        assert {(text, label), (text, "clean")} <= lengths.keys()
        own = prompt["texts"][text][PROMPT + 1 :]
        assert column(made, label, "chosen", 0, text).tolist()[PROMPT:] == own


def test_samples_of_all_conditions_share_their_random_numbers(run: Run) -> None:
    made = continued(run, "sampled", prompt_tokens=PROMPT, tokens=TOKENS, fractions=[], temperature=1.5)
    text = made.json(0, "prompt")["texts"][0]
    assert column(made, "clean", "chosen").tolist()[PROMPT:] == text[PROMPT + 1 :]
    likeliest = [first for first, *_ in column(made, "clean", "likeliest").tolist()]
    assert likeliest[PROMPT:] != text[PROMPT + 1 :], "temperature 1.5 does not always take the likeliest"
    again = continued(run, "again", prompt_tokens=PROMPT, tokens=TOKENS, fractions=[], temperature=1.5)
    assert again.record(0).objects["prompt.json"].sha256 == made.record(0).objects["prompt.json"].sha256


def test_a_shard_without_a_prompt_is_empty_and_texts_fit_the_subject(run: Run) -> None:
    rows = TokenRows.of(run.artifacts["tokens"])
    last = int((rows.split_R == Split.EVALUATE).sum())
    settings = {"prompt_tokens": CONTEXT - 8, "tokens": 2, "fractions": [], "free_running": False}
    made = continued(run, "few", (0, last), **settings)
    assert made.json(last, "prompt")["texts"] == []
    assert made.table(last, "steps").num_rows == 0
    assert made.json(0, "prompt")["free"] == {}
