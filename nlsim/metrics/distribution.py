"""Distributions among the choices of a prediction, and empirical CDFs."""

import numpy as np
import numpy.typing as npt

from nlsim.metrics.arrays import FloatArray


def choice_mass(logprobs_XC: npt.ArrayLike) -> FloatArray:
    """Probability that the listed choices hold together; what is missing went to other tokens."""
    return np.asarray(np.exp(np.asarray(logprobs_XC, dtype=np.float64)).sum(-1))


def choice_distribution(logprobs_XC: npt.ArrayLike) -> FloatArray:
    """Probabilities among the choices, summing to 1; a row without any mass (all -inf) or with a NaN is NaN."""
    logprobs = np.asarray(logprobs_XC, dtype=np.float64)
    top = logprobs.max(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        share = np.exp(logprobs - np.where(np.isneginf(top), np.nan, top))
        return np.asarray(share / share.sum(-1, keepdims=True))


def empirical_cdf(value: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Midpoint empirical CDF of `reference` at `value`: (number below + half the number equal) / n."""
    sorted_M = np.sort(np.asarray(reference, dtype=np.float64).ravel())
    at = np.asarray(value, dtype=np.float64)
    return (np.searchsorted(sorted_M, at, "left") + np.searchsorted(sorted_M, at, "right")) / (2 * sorted_M.size)
