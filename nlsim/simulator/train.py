"""Training the simulator: material from training documents and training latents, a written-in start, plain Adam."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nlsim import __version__, log
from nlsim.corpus.documents import open_documents
from nlsim.corpus.pieces import token_pieces
from nlsim.corpus.rows import build_rows
from nlsim.corpus.splits import Split, assign
from nlsim.explain.lexical import describe, find_rules
from nlsim.explain.quote import NEWLINE, SPACE, TAB
from nlsim.lm.simulator import CARD
from nlsim.simulator.batches import draw, soft_digits
from nlsim.simulator.config import SourceConfig, TrainSimulatorConfig
from nlsim.simulator.evaluate import Figures, figures, judge, predict
from nlsim.simulator.initial import RESERVED, initialise
from nlsim.simulator.material import Activity, Example, Texts, examples_of, synthetic
from nlsim.simulator.model import Shape, Simulator
from nlsim.simulator.sources import gather
from nlsim.simulator.text import SPECIAL, SimulatorText
from nlsim.simulator.tokenizer import train_tokenizer
from nlsim.subject.model import Subject

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PRACTICE = 0.1
"""First part of the steps, in which a quarter of all latents are made up."""
LEAST = 8
"""Active tokens of the explain split that a held-out latent must have."""
WATCHED, JUDGED = 24, 64
"""Rows of held-out documents on which the best step is chosen, and the figures are computed."""


class Material(NamedTuple):
    """What one source gives."""

    texts: Texts
    """Training rows."""
    practice: list[Example]
    latents: list[Example]
    held_texts: Texts
    """Held-out documents: the score split."""
    watched: list[Example]
    """Held-out latents of the training coders that choose the best step. They and those below are explained from the
    explain split and predicted on the held-out documents."""
    held: dict[str, list[Example]]
    """Held-out latents that give figures: others of the training coders, and some of each judged coder."""


def prepare(subject: Subject, source: SourceConfig, config: TrainSimulatorConfig, text: SimulatorText) -> Material:
    """Read one source's latents on the training, explain and score splits."""
    rows = build_rows(open_documents(config.corpus.source), subject.tokenizer, config.corpus)
    pieces = token_pieces(subject.tokenizer).bytes
    parts = {split: rows.of(split) for split in (Split.TRAIN, Split.EXPLAIN, Split.SCORE)}
    texts = {
        split: Texts.of(rows.tokens[of], rows.length[of], rows.document[of], pieces, text, config.seed)
        for split, of in parts.items()
    }
    every = np.concatenate([*parts.values()])
    steps = Ticker("reading latents")
    coders = (*source.coders, *source.judged)
    read = source.model_copy(update={"coders": coders})
    sources = gather(subject, read, rows.tokens[every], rows.length[every], config.seed, steps.tell)
    ends = np.cumsum([len(texts[split].reading.token_P) for split in parts])
    rng = np.random.default_rng([config.seed, 2])

    def held_out(activities: list[Activity]) -> list[Example]:
        reading = texts[Split.EXPLAIN].reading
        found = []
        for activity in activities:
            seen = _between(activity, int(ends[0]), int(ends[1]))
            if len(seen.place_A) >= LEAST:
                rules = find_rules(reading, seen.place_A, seen.strength_A, 9.0, config.budget)
                found.append(Example(_between(activity, int(ends[1]), int(ends[2])), rules, 0))
        return found

    train: list[Activity] = []
    watched: list[Activity] = []
    tested: list[Activity] = []
    held: dict[str, list[Example]] = {}
    for number, found in enumerate(sources):
        log.event("training latents", source=found.name, latents=len(found.activities))
        if len(source.coders) <= number < len(coders):
            some = rng.permutation(len(found.activities))[: config.judged_latents]
            held[found.name] = held_out([found.activities[i] for i in sorted(some)])
            continue
        if number >= len(coders):  # neurons are only learned from
            train += found.activities
            continue
        draw_L = rng.random(len(found.activities))
        for activity, drawn in zip(found.activities, draw_L, strict=True):
            group = watched if drawn < config.held_out / 2 else tested if drawn < config.held_out else train
            group.append(activity)
    train = [_between(activity, 0, int(ends[0])) for activity in train]
    held["training coders"] = held_out(tested)
    made = synthetic(texts[Split.TRAIN].reading, config.synthetic, rng)
    return Material(
        texts[Split.TRAIN],
        list(examples_of(texts[Split.TRAIN], made, config.budget)),
        list(examples_of(texts[Split.TRAIN], train, config.budget)),
        texts[Split.SCORE],
        held_out(watched),
        held,
    )


def _between(activity: Activity, first: int, last: int) -> Activity:
    """The part of an activity in a range of places, counted from its start."""
    low, high = np.searchsorted(activity.place_A, [first, last])
    return Activity(activity.place_A[low:high] - first, activity.strength_A[low:high])


def train_simulator(config: TrainSimulatorConfig, folder: Path) -> dict[str, Any]:
    """Train and write a simulator's folder; returns its card, which is also written there as `simulator.json`."""
    began = time.monotonic()
    documents = open_documents(config.corpus.source)
    training = [
        document.text
        for document in documents
        if assign(config.corpus.seed, document.name, config.corpus.fractions) is Split.TRAIN
    ]
    tokenizer = train_tokenizer(training, config.vocabulary)
    text = SimulatorText(tokenizer)
    subjects = [Subject.load(source.subject) for source in config.sources]
    materials = [
        prepare(subject, source, config, text) for subject, source in zip(subjects, config.sources, strict=True)
    ]
    shape = Shape(tokenizer.get_vocab_size(), config.width, config.layers, config.heads, config.hidden, config.theta)
    torch.manual_seed(config.seed)
    model = Simulator(shape, text.digits)
    initialise(model, text, meanings(tokenizer, subjects[0], config.width - RESERVED), config.seed)
    del subjects
    curve = fit(model, text, materials, config)
    results: dict[str, Any] = {}
    for material in materials:
        texts = material.held_texts
        rows = np.arange(min(JUDGED, len(texts.windows)))
        for name, held in material.held.items():
            if held:
                found = {kind: figure._asdict() for kind, figure in judge(model, texts, text, held, rows).items()}
                results[name] = {**found, "latents": len(held), "rows": len(rows)}
    save(model, tokenizer, folder)
    card = {
        "nlsim": __version__,
        "config": config.model_dump(mode="json"),
        "parameters": shape.parameters,
        "training_latents": sum(len(material.latents) for material in materials),
        "loss": [round(loss, 4) for loss in curve.losses],
        "best_step": curve.best_step,
        "watched_log_loss": curve.watched,
        "held_out": results,
        "seconds": round(time.monotonic() - began),
    }
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return card


def meanings(tokenizer: Tokenizer, subject: Subject, size: int) -> Tensor:
    """[vocabulary, size]: each token of the simulator as the principal components of the subject's embedding of its
    text.

    So that like words are alike from the start. Special tokens and broken characters get zeros.
    """
    embedding_VD = subject.model.get_input_embeddings().weight.detach().float()
    centred_VD = embedding_VD - embedding_VD.mean(0)
    sample = torch.randperm(len(centred_VD), generator=torch.Generator().manual_seed(0))[:12_000]
    _, _, axes_DD = torch.linalg.svd(centred_VD[sample], full_matrices=False)
    axes_KD = axes_DD[:size]
    made = torch.zeros(tokenizer.get_vocab_size(), size)
    for number in range(len(SPECIAL), tokenizer.get_vocab_size()):
        piece = tokenizer.decode([number]).replace(NEWLINE, "\n").replace(SPACE, " ").replace(TAB, "\t")
        ids = subject.tokenizer.encode(piece, add_special_tokens=False) if piece else []
        if ids:
            made[number, : len(axes_KD)] = centred_VD[ids].mean(0) @ axes_KD.T
    # unit variance per component: else the few that tell frequent tokens from rare ones rule all comparisons
    return made / made.std(0).clamp(min=1e-3)


class Curve(NamedTuple):
    """How training went."""

    losses: list[float]
    """Mean loss of every tenth of the run."""
    watched: dict[int, float]
    """Step → log loss on the watched latents (`Figures.log_loss`)."""
    best_step: int
    """The step whose weights were kept."""


def fit(model: Simulator, text: SimulatorText, materials: list[Material], config: TrainSimulatorConfig) -> Curve:
    """Train in place; the weights of the step with the least log loss on the watched latents are kept.

    Not the one that explains most of their variance: a few dense latents decide that.
    """
    matrices = [p for p in model.parameters() if p.ndim == 2 and p is not model.embedding]
    others = [p for p in model.parameters() if p.ndim < 2 or p is model.embedding]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "scale": 1.0}, {"params": others, "scale": 0.5}],
        lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01,
    )  # fmt: skip
    rng = np.random.default_rng([config.seed, 3])
    ticker = Ticker("training")
    losses: list[float] = []
    watched: dict[int, float] = {}
    best: dict[str, Tensor] = {}

    def watch(step: int) -> None:
        found = watch_figures(model, text, materials)
        watched[step] = float(np.mean([figure.log_loss for figure in found])) if found else 0.0
        log.event("watched", step=step, mean_log_loss=f"{watched[step]:.4f}")
        for source, figure in enumerate(found):
            facts: dict[str, Any] = {name: f"{value:.4f}" for name, value in figure._asdict().items()}
            log.event("watched", **facts, step=step, source=source)
        if watched[step] == min(watched.values()):
            best.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    watch(0)
    sizes = np.array([len(material.latents) for material in materials], np.float64)
    for step in range(config.steps):
        rate = config.learning_rate * schedule(step, config.steps)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        material = materials[int(rng.choice(len(materials), p=sizes / sizes.sum()))]
        made_up = 0.25 if step < PRACTICE * config.steps else 0.03
        pools = [
            material.practice if material.practice and rng.random() < made_up else material.latents
            for _ in range(config.latents)
        ]
        examples = [pool[int(rng.integers(len(pool)))] for pool in pools]
        questions = draw(material.texts, text, examples, config.windows, rng)
        hidden_RD = model(questions.batch).flatten(0, 2)[questions.read_R]
        loss = -(soft_digits(questions.target_R) * model.logprobs(hidden_RD)).sum(1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        ticker.tell(step + 1, config.steps, float(np.mean(losses[-50:])))
        if (step + 1) % config.watch == 0 or step + 1 == config.steps:
            watch(step + 1)
    model.load_state_dict(best)
    means = [float(np.mean(part)) for part in np.array_split(losses, min(10, config.steps))]
    return Curve(means, watched, min(reversed(watched), key=watched.__getitem__))  # without any to watch, the last


def watch_figures(model: Simulator, text: SimulatorText, materials: list[Material]) -> list[Figures]:
    """Figures on the watched latents, one for each source that has some."""
    found = []
    for material in materials:
        if material.watched:
            texts, watched = material.held_texts, material.watched
            rows = np.arange(min(WATCHED, len(texts.windows)))
            lines = [describe(example.rules, texts.reading) for example in watched]
            judged = predict(model, texts, text, lines, [example.activity for example in watched], rows)
            found.append(figures(judged, np.array([example.rules.base.mean for example in watched])))
    return found


def schedule(step: int, steps: int) -> float:
    """Part of the peak learning rate: a short warm-up, then half a cosine."""
    warm = min(1.0, (step + 1) / max(1, min(60, steps // 10)))
    return warm * (0.03 + 0.97 * (1 + math.cos(math.pi * step / steps)) / 2)


def save(model: Simulator, tokenizer: Tokenizer, folder: Path) -> None:
    """The folder that transformers, vLLM and nlsim load."""
    model.save(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|pad|>",
        "model_max_length": model.shape.longest,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


class Ticker:
    """Says every half minute how far something is."""

    def __init__(self, what: str, every: float = 30.0) -> None:
        self._what, self._every, self._last = what, every, time.monotonic()

    def tell(self, done: int, total: int, loss: float | None = None) -> None:
        """Note progress."""
        if time.monotonic() - self._last >= self._every or done == total:
            self._last = time.monotonic()
            log.event(self._what, done=done, total=total, loss="" if loss is None else f"{loss:.4f}")
