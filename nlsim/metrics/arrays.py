"""Array types of this package, and the one rule about failures: a failed answer is NaN, is left out, and is counted."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class Sample(NamedTuple):
    """What is left of a sample after its failures are taken out."""

    truth_N: BoolArray
    score_N: FloatArray
    weight_N: FloatArray
    failed: float
    """Weight of the answers that were NaN."""


def answered(truth: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Sample:
    """Flatten a labelled sample and set its failures (NaN scores) apart.

    Raises ValueError when the shapes differ or a weight is negative or not finite.
    """
    truth_N = np.asarray(truth).astype(bool).ravel()
    score_N = np.asarray(score, dtype=np.float64).ravel()
    weight_N = weights_like(score_N, weight)
    if truth_N.shape != score_N.shape:
        raise ValueError(f"{truth_N.size} labels for {score_N.size} answers")
    kept_N = ~np.isnan(score_N)
    return Sample(truth_N[kept_N], score_N[kept_N], weight_N[kept_N], float(weight_N[~kept_N].sum()))


def weights_like(value_N: FloatArray, weight: npt.ArrayLike | None) -> FloatArray:
    """`weight` as floats of the shape of `value_N`; ones when there is none."""
    if weight is None:
        return np.ones(value_N.shape)
    weight_N = np.asarray(weight, dtype=np.float64).reshape(value_N.shape)
    if not (np.isfinite(weight_N).all() and (weight_N >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    return weight_N


def ratio(numerator: float, denominator: float) -> float:
    """The quotient, NaN where the denominator is 0: an undefined rate is not a rate of 0."""
    return numerator / denominator if denominator else float("nan")
