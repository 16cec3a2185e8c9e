"""Classification of latents as active or inactive: confusion counts, AUC and precision@k, all with weights.

Weights are how a subsampled pool speaks for the whole dictionary. A pool of 50 active and 1,000 of 130,000 inactive
latents has a prevalence of 5 %, the dictionary one of 0.04 %: precision and F1 on the pool say nothing about use.
A weight gives every sampled inactive what it stands for.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.metrics.arrays import FloatArray, answered, ratio


class Confusion(NamedTuple):
    """Weighted counts of decisions. Rates are NaN where they are undefined."""

    tp: float
    fp: float
    tn: float
    fn: float
    failed: float = 0.0
    """Weight of the answers that could not be read; in none of the four other counts."""

    @property
    def recall(self) -> float:
        """TP / (TP + FN): share of the active that was found."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP): share of the inactive that was left alone."""
        return ratio(self.tn, self.tn + self.fp)

    @property
    def precision(self) -> float:
        """TP / (TP + FP): share of the found that is active."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN): harmonic mean of precision and recall."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of recall and specificity."""
        return (self.recall + self.specificity) / 2

    @property
    def accuracy(self) -> float:
        """Share of right decisions."""
        return ratio(self.tp + self.tn, self.tp + self.tn + self.fp + self.fn)

    @property
    def prevalence(self) -> float:
        """Share of the active among the answered."""
        return ratio(self.tp + self.fn, self.tp + self.tn + self.fp + self.fn)


def confusion(
    truth: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None, threshold: float = 0.5
) -> Confusion:
    """Decide "active" where `probability >= threshold` and count.

    `truth` and `probability` have one shape; 0/1 decisions are probabilities too. NaN is a failed answer: it is counted
    in `failed` and is neither right nor wrong.
    """
    truth_N, probability_N, weight_N, failed = answered(truth, probability, weight)
    decided_N = probability_N >= threshold
    return Confusion(
        tp=float(weight_N[truth_N & decided_N].sum()),
        fp=float(weight_N[~truth_N & decided_N].sum()),
        tn=float(weight_N[~truth_N & ~decided_N].sum()),
        fn=float(weight_N[truth_N & ~decided_N].sum()),
        failed=failed,
    )


class Tail(NamedTuple):
    """Cumulative weight of the classes at and above each distinct score, highest score first."""

    score_U: FloatArray
    active_U: FloatArray
    inactive_U: FloatArray


def tail_counts(truth: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Tail:
    """Exact tail counts of the two classes over all distinct scores: everything a ROC or a precision-recall curve is
    made of."""
    truth_N, score_N, weight_N, _ = answered(truth, score, weight)
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N = score_N[order_N]
    active_N = np.cumsum(np.where(truth_N, weight_N, 0.0)[order_N])
    inactive_N = np.cumsum(np.where(truth_N, 0.0, weight_N)[order_N])
    last_U = np.flatnonzero(np.append(np.diff(sorted_N) != 0, True)) if sorted_N.size else np.zeros(0, dtype=np.int64)
    return Tail(sorted_N[last_U], active_N[last_U], inactive_N[last_U])


def auc(truth: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve: P(score of an active > score of an inactive) + half P(equal). Ties count one half
    (midranks).

    NaN scores are left out. NaN when a class is empty. Reweighting whole classes (prevalence) does not change it.
    """
    tail = tail_counts(truth, score, weight)
    if not tail.score_U.size or tail.active_U[-1] == 0 or tail.inactive_U[-1] == 0:
        return float("nan")
    recall = np.append(0.0, tail.active_U / tail.active_U[-1])
    false_rate = np.append(0.0, tail.inactive_U / tail.inactive_U[-1])
    return float(np.trapezoid(recall, false_rate))


def precision_at(truth: npt.ArrayLike, score: npt.ArrayLike, k: float, weight: npt.ArrayLike | None = None) -> float:
    """Expected share of the active among the `k` highest scores, ties in random order; `k` counts weight, so
    where weights speak for a population it is k of the population. When fewer than `k` are there, all are taken. NaN
    scores are left out."""
    tail = tail_counts(truth, score, weight)
    if not tail.score_U.size:
        return float("nan")
    total_U = np.append(0.0, tail.active_U + tail.inactive_U)
    taken = min(float(k), float(total_U[-1]))
    return ratio(float(np.interp(taken, total_U, np.append(0.0, tail.active_U))), taken)
