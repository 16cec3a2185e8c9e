"""From answers to scores: one row per latent and scorer, and one per example beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.metrics.classification import confusion
from nlsim.metrics.distribution import choice_distribution, choice_mass
from nlsim.metrics.intervals import delong, mean_of_rates, wilson
from nlsim.score.questions import Question

if TYPE_CHECKING:
    import pyarrow

LEAST_MASS = 0.05
"""An answer in which 0 and 1 hold less probability than this counts as failed."""


class Answered(NamedTuple):
    """The questions of one scorer about one latent, and the probability of "yes" for each: NaN where that failed."""

    latent: int
    scorer: str
    questions: Sequence[Question]
    probability_N: npt.NDArray[np.float64]


def probability_of_yes(logprobs_NC: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """P(1) / (P(0) + P(1)) from log-probabilities of 0 and 1; NaN where the two hold too little to be an answer."""
    logprobs = np.asarray(logprobs_NC, np.float64)
    if not len(logprobs):
        return np.zeros(0)
    probability: npt.NDArray[np.float64] = np.asarray(choice_distribution(logprobs)[:, 1], np.float64)
    probability[~(choice_mass(logprobs) >= LEAST_MASS)] = np.nan
    return probability


def score_row(answered: Answered) -> dict[str, object]:
    """Counts, balanced accuracy with its interval (Wilson's for both rates, combined), F1, AUC with its (DeLong)."""
    truth = np.array([question.truth for question in answered.questions], np.bool_)
    counts = confusion(truth, answered.probability_N)
    recall = wilson(counts.tp, counts.tp + counts.fn)
    specificity = wilson(counts.tn, counts.tn + counts.fp)
    balanced = mean_of_rates(recall, specificity)
    heard = np.isfinite(answered.probability_N)
    auc = delong(truth[heard], answered.probability_N[heard])
    return {
        "latent": answered.latent,
        "scorer": answered.scorer,
        "n_pos": int(truth.sum()),
        "n_neg": int((~truth).sum()),
        "failed": int(counts.failed),
        "tp": int(counts.tp),
        "fp": int(counts.fp),
        "tn": int(counts.tn),
        "fn": int(counts.fn),
        "balanced_accuracy": balanced.value,
        "low": balanced.low,
        "high": balanced.high,
        "f1": counts.f1,
        "auc": auc.value,
        "auc_low": auc.low,
        "auc_high": auc.high,
    }


def score_table(answered: Iterable[Answered]) -> pyarrow.Table:
    """One row per latent and scorer; undefined numbers are NaN."""
    import pyarrow as pa

    rows = [score_row(one) for one in answered]
    whole = ("latent", "n_pos", "n_neg", "failed", "tp", "fp", "tn", "fn")
    rates = ("balanced_accuracy", "low", "high", "f1", "auc", "auc_low", "auc_high")
    types = {**dict.fromkeys(whole, pa.int64()), "scorer": pa.string(), **dict.fromkeys(rates, pa.float64())}
    order = ("latent", "scorer", *whole[1:], *rates)
    return pa.table({name: pa.array([row[name] for row in rows], types[name]) for name in order})


def example_table(answered: Iterable[Answered]) -> pyarrow.Table:
    """One row per example: where its text is, what was marked, the truth, the answer (NaN: failed), its strength
    rank."""
    import pyarrow as pa

    rows = []
    for one in answered:
        for q, probability in zip(one.questions, one.probability_N.tolist(), strict=True):
            marked = [i for i, mark in enumerate(q.marked) if mark]
            rows.append(
                (one.latent, one.scorer, q.row, q.start, len(q.pieces), marked, q.truth, probability, q.quantile)
            )
    names = ("latent", "scorer", "row", "start", "length", "marked", "truth", "probability", "quantile")
    types = (
        pa.int64(), pa.string(), pa.int64(), pa.int64(), pa.int64(), pa.list_(pa.int64()), pa.bool_(), pa.float64(),
        pa.int64(),
    )  # fmt: skip
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pa.table({name: pa.array(list(c), t) for name, t, c in zip(names, types, columns, strict=True)})
