"""Distributions: expected digits, empirical CDFs and quantile maps, variance explained, divergence of next-token
distributions."""

import numpy as np
import numpy.typing as npt

from nlsim.metrics.arrays import FloatArray, weights_like


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


def expected_digit(logprobs_XC: npt.ArrayLike) -> FloatArray:
    """Mean digit 0..C-1 under the distribution among the digits; NaN for a failed answer, never a sentinel."""
    distribution = choice_distribution(logprobs_XC)
    return distribution @ np.arange(distribution.shape[-1], dtype=np.float64)


def empirical_cdf(value: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Midpoint empirical CDF of `reference` at `value`: (number below + half the number equal) / n."""
    sorted_M = np.sort(np.asarray(reference, dtype=np.float64).ravel())
    at = np.asarray(value, dtype=np.float64)
    return (np.searchsorted(sorted_M, at, "left") + np.searchsorted(sorted_M, at, "right")) / (2 * sorted_M.size)


def quantile_map(value: npt.ArrayLike, source: npt.ArrayLike, target: npt.ArrayLike) -> FloatArray:
    """Quantile normalisation: a value's rank in `source` (midpoint CDF), read off as that quantile of `target`.

    Monotone; when `source` and `target` have one distribution it is the identity on sample points up to ties. Zeros
    belong to both samples: with a share d of non-zeros in `target`, only the top d of the source stays above 0.
    """
    levels = empirical_cdf(value, source)
    return np.asarray(np.quantile(np.asarray(target, dtype=np.float64).ravel(), levels, method="hazen"))


def fvu(truth: npt.ArrayLike, predicted: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Fraction of variance unexplained: sum of squared errors over sum of squared deviations from the mean, over all
    columns.

    `truth` and `predicted` are [N] or [N, D]; `weight` is [N]. 0 is perfect, 1 is the mean's. Rows with a NaN are left
    out; NaN when the truth does not vary.
    """
    truth_ND = np.atleast_2d(np.asarray(truth, dtype=np.float64).T).T
    predicted_ND = np.atleast_2d(np.asarray(predicted, dtype=np.float64).T).T
    if truth_ND.shape != predicted_ND.shape:
        raise ValueError(f"truth {truth_ND.shape} and prediction {predicted_ND.shape} differ in shape")
    kept_N = ~(np.isnan(truth_ND) | np.isnan(predicted_ND)).any(1)
    weight_N = weights_like(truth_ND[:, 0], weight)[kept_N]
    truth_ND, predicted_ND = truth_ND[kept_N], predicted_ND[kept_N]
    total = weight_N.sum()
    if total == 0:
        return float("nan")
    spread = float(weight_N @ ((truth_ND - weight_N @ truth_ND / total) ** 2).sum(1))
    return float(weight_N @ ((truth_ND - predicted_ND) ** 2).sum(1)) / spread if spread > 0 else float("nan")


def kl_divergence(log_p_XV: npt.ArrayLike, log_q_XV: npt.ArrayLike) -> FloatArray:
    """KL(p ‖ q) = sum p (log p - log q) in nats over the last axis, from log-probabilities, in float64.

    For patched models p is the clean run's distribution and q the patched one's: KL(clean ‖ patched). Never negative; a
    token with p = 0 adds nothing.
    """
    log_p, log_q = np.asarray(log_p_XV, dtype=np.float64), np.asarray(log_q_XV, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * (log_p - log_q))
    return np.asarray(np.maximum(terms.sum(-1), 0.0))
