"""How good a simulator is on latents and documents it was not trained on, beside controls that it must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nlsim.explain.lexical import describe
from nlsim.metrics.classification import auc
from nlsim.metrics.probability import calibration_error, reliability
from nlsim.simulate.predictions import derangement
from nlsim.simulator.batches import simulation, soft_digits
from nlsim.simulator.material import Activity, Example, Texts
from nlsim.simulator.model import Simulator
from nlsim.simulator.text import Ints, SimulatorText

TOGETHER = 8
"""Latents in one forward pass."""


class Figures(NamedTuple):
    """Averages over held-out latents on held-out documents."""

    auc: float
    """Of P(digit > 0) for active tokens against silent ones, mean over latents."""
    pooled_auc: float
    """The same with the tokens of all latents in one pool."""
    log_loss: float
    """Cross-entropy of the digits, nats per token."""
    variance: float
    """Share of the variance of all strengths about their latent's mean that the expected digit explains."""
    calibration_error: float
    """Mean distance of P(digit > 0) from the share of active tokens."""


class Judged(NamedTuple):
    """What the simulator says and the truth, [latents][reads]."""

    expected: list[npt.NDArray[np.float64]]
    active: list[npt.NDArray[np.float64]]
    strength: list[npt.NDArray[np.float64]]
    loss: list[float]


def predict(
    model: Simulator,
    texts: Texts,
    text: SimulatorText,
    explanations: Sequence[str],
    activities: list[Activity],
    rows: Ints,
) -> Judged:
    """Simulate each latent on all `rows`."""
    digits = torch.arange(10.0)
    judged = Judged([], [], [], [])
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(activities), TOGETHER):
            some = activities[start : start + TOGETHER]
            prefixes = [text.prefix(line) for line in explanations[start : start + TOGETHER]]
            questions = simulation(texts, text, prefixes, some, np.tile(rows, (len(some), 1)))
            hidden = model(questions.batch).flatten(0, 2)[questions.read_R]
            logprobs = model.logprobs(hidden)
            share = logprobs.softmax(1)
            loss_R = -(soft_digits(questions.target_R) * logprobs).sum(1)
            for e in range(len(some)):
                mine = questions.latent_R == e
                judged.expected.append((share[mine] @ digits).double().numpy())
                judged.active.append((1 - share[mine, 0]).double().numpy())
                judged.strength.append(questions.target_R[mine].double().numpy())
                judged.loss.append(float(loss_R[mine].mean()))
    model.train()
    return judged


def figures(judged: Judged, mean_L: npt.NDArray[np.float64]) -> Figures:
    """Averages; `mean_L` is each latent's mean strength where it was explained."""
    truth = [strength > 0 for strength in judged.strength]
    both = [place for place, one in enumerate(truth) if one.any() and not one.all()]
    error = sum(float(((y - p) ** 2).sum()) for y, p in zip(judged.strength, judged.expected, strict=True))
    spread = sum(float(((y - m) ** 2).sum()) for y, m in zip(judged.strength, mean_L, strict=True))
    pool_truth, pool_active = np.concatenate(truth), np.concatenate(judged.active)
    return Figures(
        float(np.mean([auc(truth[place], judged.active[place]) for place in both])),
        float(auc(pool_truth, pool_active)),
        float(np.mean(judged.loss)),
        1 - error / spread,
        float(calibration_error(reliability(pool_truth, pool_active))),
    )


def judge(
    model: Simulator, texts: Texts, text: SimulatorText, examples: Sequence[Example], rows: Ints, seed: int = 0
) -> dict[str, Figures]:
    """Figures with each latent's own explanation, with another latent's, and with none."""
    activities = [example.activity for example in examples]
    own = [describe(example.rules, texts.reading) for example in examples]
    shuffled = [own[i] for i in derangement(len(own), seed)]
    mean_L = np.array([example.rules.base.mean for example in examples])
    conditions = {"explanation": own, "shuffled": shuffled, "none": [""] * len(own)}
    return {
        name: figures(predict(model, texts, text, lines, activities, rows), mean_L)
        for name, lines in conditions.items()
    }
