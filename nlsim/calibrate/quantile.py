"""(b) Quantile normalisation: a prediction's rank becomes the same quantile of the true activations, zeros included."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.metrics.distribution import empirical_cdf

POOL = 512  # points that stand for the distribution of all latents' predictions
Float32 = npt.NDArray[np.float32]


class QuantileMap(NamedTuple):
    """For each latent: knots of the CDF of its predictions, and quantiles of its true non-zero activations."""

    knot_LQ: Float32
    """Expected digits, ascending."""
    rank_LQ: Float32
    """Midpoint CDF of the latent's predictions at the knots."""
    density_L: Float32
    """Share of positions at which it is truly active."""
    active_LV: Float32
    """True activations where active, at evenly spaced levels from 0 to 1."""

    def values(self, expected_LR: npt.NDArray[np.floating]) -> Float32:
        """Values for expected digits [latents, reads]; NaN where the prediction failed. With density d, only ranks
        above 1 - d give anything but 0."""
        result_LR = np.full(expected_LR.shape, np.nan, dtype=np.float32)
        level_V = np.linspace(0, 1, self.active_LV.shape[1])
        for i, expected_R in enumerate(expected_LR):
            rank_R = np.interp(expected_R, self.knot_LQ[i], self.rank_LQ[i])
            density = float(self.density_L[i])
            if density <= 0:
                result_LR[i] = 0
            else:
                within_R = (rank_R - (1 - density)) / density
                result_LR[i] = np.where(within_R > 0, np.interp(within_R, level_V, self.active_LV[i]), 0)
            result_LR[i, np.isnan(expected_R)] = np.nan
        return result_LR


def fit_quantile_map(
    expected_LR: npt.NDArray[np.floating],
    density_L: npt.NDArray[np.floating],
    active_LV: npt.NDArray[np.floating],
    pooled_reads: float,
    knots: int = 65,
) -> QuantileMap:
    """Fit from the predictions on the calibration reads (no truth at those reads is used).

    A latent's CDF is (R · own + K · pooled) / (R + K) with K = `pooled_reads`: with few reads for the density of a
    latent, its own ranks cannot reach the top 1 - density, and the pooled tail decides. `active_LV` [latents, levels]
    are quantiles of the true non-zero activations from other rows. Knots are denser towards the top, where ranks
    matter.
    """
    finite = expected_LR[np.isfinite(expected_LR)]
    pool_P = np.quantile(finite, _levels(POOL)) if finite.size else np.zeros(POOL)
    level_Q = _levels(knots)
    latents = len(expected_LR)
    knot_LQ = np.zeros((latents, knots), dtype=np.float32)
    rank_LQ = np.zeros((latents, knots), dtype=np.float32)
    pool_mass_P = np.gradient(_levels(POOL))
    for i in range(latents):
        own_R = expected_LR[i][np.isfinite(expected_LR[i])].astype(np.float64)
        share = own_R.size / (own_R.size + pooled_reads) if own_R.size + pooled_reads else 0.0
        parts = [(own_R, share)] if own_R.size else []
        if pooled_reads > 0 or not own_R.size:
            parts.append((pool_P, 1 - share))
        knot_Q = np.unique(np.concatenate([np.quantile(sample, level_Q) for sample, _ in parts]).astype(np.float32))
        # the knots nearest to the wanted levels of the mixture
        rank_K = sum(weight * _cdf(knot_Q, sample, pool_P, pool_mass_P) for sample, weight in parts)
        pick_Q = np.clip(np.searchsorted(rank_K, level_Q), 0, knot_Q.size - 1)
        knot_LQ[i], rank_LQ[i] = knot_Q[pick_Q], np.asarray(rank_K)[pick_Q]
    return QuantileMap(knot_LQ, rank_LQ, density_L.astype(np.float32), active_LV.astype(np.float32))


def _cdf(
    at_Q: npt.NDArray[np.floating],
    sample: npt.NDArray[np.float64],
    pool_P: npt.NDArray[np.float64],
    pool_mass_P: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Midpoint CDF of a latent's own sample, or of the pool's weighted points."""
    if sample is not pool_P:
        return empirical_cdf(at_Q, sample.astype(np.float32))
    mass = np.append(0.0, np.cumsum(pool_mass_P / pool_mass_P.sum()))
    points = pool_P.astype(np.float32)
    return np.asarray((mass[np.searchsorted(points, at_Q, "left")] + mass[np.searchsorted(points, at_Q, "right")]) / 2)


def _levels(count: int) -> npt.NDArray[np.float64]:
    """Levels from 0 to 1, half of them spaced evenly and half geometrically towards 1."""
    even = np.linspace(0, 0.9, count - count // 2, endpoint=False)
    top = 1 - np.append(np.geomspace(0.1, 1e-5, count // 2 - 1), 0.0)
    return np.concatenate([even, top])
