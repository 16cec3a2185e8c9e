"""How far each latent's predictions are to be trusted: empirical Bayes over the slope of the shared curve.

For latent l the model is P(active | signals) = expit(intercept + slope · f(signals)). The intercept is not free: for
each slope it is the one at which the mean probability over the reads is the latent's base rate. So slope 0 is exactly
mean ablation, and whatever the slope, the latent is right on average. The slope has a prior, itself estimated from all
latents without assuming its shape (Kiefer & Wolfowitz 1956, on a grid), in groups of latents with similar scores. A
latent with little data gets its group's; one whose predictions prove to say nothing gets 0.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

GRID_G = np.array([0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05, 1.25, 1.5, 2.0, 3.0])
ROUNDS = 40  # of Newton's method at most
CHUNK = 1 << 22  # latent · read pairs looked at together


class Slopes(NamedTuple):
    """The fitted slopes."""

    slope_L: Float64
    """Posterior mean slope."""
    prior_BG: Float64
    """Prior weight of each grid point for each group of latents."""
    group_L: npt.NDArray[np.int64]


def intercepts(
    curve_LR: Float32, slope_L: npt.NDArray[np.floating], rate_L: Float64, tolerance: float = 1e-5
) -> Float64:
    """The intercept of each latent at which mean expit(intercept + slope · curve) over its finite reads is `rate_L`, to
    a relative `tolerance`.

    Safeguarded Newton on a monotone function; latents with rate 0 get -inf, with rate 1 +inf. A latent without finite
    reads gets logit(rate).
    """
    result_L = np.empty(len(curve_LR))
    for part in _chunks(curve_LR):
        shift_LR = np.where(np.isnan(curve_LR[part]), 0, curve_LR[part] * slope_L[part, None]).astype(np.float32)
        weight_LR = (~np.isnan(curve_LR[part])).astype(np.float32)
        weight_LR[weight_LR.sum(1) == 0] = 1
        weight_LR /= weight_LR.sum(1, keepdims=True)
        rate = np.clip(rate_L[part], 1e-12, 1 - 1e-12)
        base = np.log(rate) - np.log1p(-rate)
        low, high = base - shift_LR.max(1), base - shift_LR.min(1)
        at = base - (shift_LR * weight_LR).sum(1)
        for _ in range(ROUNDS):
            p_LR = expit(shift_LR + at[:, None].astype(np.float32))
            mean = (p_LR * weight_LR).sum(1, dtype=np.float64)
            gap = mean - rate
            if (np.abs(gap) <= tolerance * rate + 1e-9).all():
                break
            low, high = np.where(gap < 0, at, low), np.where(gap > 0, at, high)
            curvature = (p_LR * (1 - p_LR) * weight_LR).sum(1, dtype=np.float64)
            # Newton on log(mean), which is nearer to a straight line when rates are small
            step = np.log(np.maximum(mean, 1e-30) / rate) * mean / np.maximum(curvature, 1e-30)
            newton = at - step
            at = np.where((newton > low) & (newton < high), newton, (low + high) / 2)
        result_L[part] = np.where(rate_L[part] <= 0, -np.inf, np.where(rate_L[part] >= 1, np.inf, at))
    return result_L


def fit_slopes(
    curve_LR: Float32,
    active_LR: npt.NDArray[np.bool_],
    rate_L: Float64,
    score_L: Float64,
    groups: int,
    independent: float,
) -> Slopes:
    """Posterior mean slopes of all latents.

    `curve_LR` is the shared curve at each read (NaN: failed), `rate_L` the base rates, `score_L` forms the groups
    (NaN scores are a group of their own), `independent` the part of the reads that counts as independent evidence.
    """
    log_LG = np.stack([_log_likelihood(curve_LR, active_LR, rate_L, slope) for slope in GRID_G], axis=1) * independent
    likelihood_LG = np.exp(log_LG - log_LG.max(1, keepdims=True))
    group_L = score_groups(score_L, groups)
    usable_L = (rate_L > 0) & (rate_L < 1) & np.isfinite(curve_LR).any(1)
    prior_BG = np.stack(
        [_mixing_weights(likelihood_LG[usable_L & (group_L == b)]) for b in range(int(group_L.max(initial=0)) + 1)]
    )
    posterior_LG = likelihood_LG * prior_BG[group_L]
    posterior_LG /= posterior_LG.sum(1, keepdims=True)
    return Slopes(np.where(usable_L, posterior_LG @ GRID_G, 0.0), prior_BG, group_L)


def _log_likelihood(curve_LR: Float32, active_LR: npt.NDArray[np.bool_], rate_L: Float64, slope: float) -> Float64:
    """Log-likelihood of each latent's activity at one slope."""
    intercept_L = intercepts(curve_LR, np.full(len(curve_LR), slope), rate_L, tolerance=1e-3)
    result_L = np.zeros(len(curve_LR))
    for part in _chunks(curve_LR):
        finite = np.clip(intercept_L[part], -50, 50)[:, None].astype(np.float32)
        odds_LR = finite + np.float32(slope) * curve_LR[part]
        terms_LR = np.logaddexp(0, np.where(active_LR[part], -odds_LR, odds_LR))
        result_L[part] = -np.nansum(terms_LR, axis=1, dtype=np.float64)
    return result_L


def score_groups(score_L: Float64, groups: int) -> npt.NDArray[np.int64]:
    """Latents in equal groups by score, at least 30 in each; those without a score make one more group."""
    known = score_L[np.isfinite(score_L)]
    count = int(np.clip(known.size // 30, 1, groups))
    edges = np.quantile(known, np.linspace(0, 1, count + 1)[1:-1]) if known.size else np.zeros(0)
    group_L = np.searchsorted(np.unique(edges), np.nan_to_num(score_L, nan=-np.inf), side="right")
    return np.where(np.isfinite(score_L), group_L, edges.size + 1 if known.size else 0).astype(np.int64)


def _mixing_weights(likelihood_LG: Float64, rounds: int = 200, pseudo: float = 1.0) -> Float64:
    """Weights of the grid points that make the latents' likelihoods most probable, by EM. `pseudo` latents, spread
    evenly over the grid, keep every weight above 0; without latents the weights are even."""
    points = likelihood_LG.shape[1]
    weight_G = np.full(points, 1 / points)
    for _ in range(rounds):
        share_LG = likelihood_LG * weight_G
        share_LG /= share_LG.sum(1, keepdims=True)
        weight_G = (share_LG.sum(0) + pseudo / points) / (len(likelihood_LG) + pseudo)
    return weight_G


def _chunks(values_LR: Float32) -> list[slice]:
    step = max(1, CHUNK // max(values_LR.shape[1], 1))
    return [slice(i, i + step) for i in range(0, len(values_LR), step)]
