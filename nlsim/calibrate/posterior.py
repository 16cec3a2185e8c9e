"""(c) The posterior mean E[activation | prediction], in the light of the latent's base rate.

    value = active mean · P(active | signals) · S(signals)
    P     = expit(intercept_l + slope_l · f(signals))        chance of any activation
    S     = 1 + min(slope_l, 1) · (g(signals) - centre_l)     size, given activation, relative to the latent's mean size

f and g are monotone curves fitted on all latents together; slope_l says how far latent l's predictions are trusted
(empirical Bayes, see `slopes`); intercept_l and centre_l make the mean of P and of P · S over the calibration reads the
latent's base rate. So a latent's values are right on average whatever its predictions, and predictions that say nothing
give its mean: mean ablation is what this map falls back to, and signal can only improve on it in expectation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nlsim.calibrate.curves import Curve, fit_log_odds, fit_mean, knots_for
from nlsim.calibrate.signals import Latents, Signals, logit
from nlsim.calibrate.slopes import fit_slopes, intercepts

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

KNOTS = 9
ROUNDS = 3  # of fitting the shared curve and the latents' intercepts in turn
LEAST_SIZE = 0.05  # of an active latent, relative to its mean


class Posterior(NamedTuple):
    """The fitted map: curves shared by all latents, and the latents' own numbers."""

    odds_curve: Curve
    size_curve: Curve
    average_L: Float64
    """Log-odds of the latent's mean predicted probability: what its signals are relative to."""
    intercept_L: Float64
    slope_L: Float64
    centre_L: Float64
    active_mean_L: Float64
    mean_L: Float64
    """Mean activation: the value where the prediction failed."""

    def probability(self, signals: Signals) -> Float32:
        """P(active) [latents, reads]; a failed prediction leaves the base rate: NaN is for `values` and callers to
        see."""
        curve_LR = self.odds_curve(features_of(signals, self.average_L))
        odds_LR = np.clip(self.intercept_L, -80, 80)[:, None] + self.slope_L[:, None] * curve_LR
        return np.where(np.isnan(signals.odds_LR), np.nan, expit(odds_LR)).astype(np.float32)

    def values(self, signals: Signals) -> Float32:
        """Posterior mean activations [latents, reads], never negative; the latent's mean where the prediction
        failed."""
        probability_LR = self.probability(signals)
        size_LR = self._size(signals)
        value_LR = self.active_mean_L[:, None] * probability_LR * size_LR
        return np.where(np.isnan(probability_LR), self.mean_L[:, None], value_LR).astype(np.float32)

    def _size(self, signals: Signals) -> Float32:
        curve_LR = self.size_curve(features_of(signals, self.average_L))
        trust_L1 = np.minimum(self.slope_L, 1)[:, None]
        return np.maximum(1 + trust_L1 * (curve_LR - self.centre_L[:, None]), LEAST_SIZE).astype(np.float32)

    def to_arrays(self) -> dict[str, Float64]:
        """The whole map as named arrays."""
        return {
            "odds_knots": self.odds_curve.knot_FK,
            "odds_rises": self.odds_curve.rise_FK,
            "size_knots": self.size_curve.knot_FK,
            "size_rises": self.size_curve.rise_FK,
            **{name: getattr(self, name + "_L") for name in PER_LATENT},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Float64]) -> "Posterior":
        """The map stored by `to_arrays`."""
        odds = Curve(arrays["odds_knots"], arrays["odds_rises"])
        size = Curve(arrays["size_knots"], arrays["size_rises"])
        return cls(odds, size, **{name + "_L": arrays[name] for name in PER_LATENT})


PER_LATENT = ("average", "intercept", "slope", "centre", "active_mean", "mean")


def features_of(signals: Signals, average_L: npt.NDArray[np.floating]) -> tuple[Float32, ...]:
    """Inputs of the shared curves: log-odds relative to the latent's average, log-odds, expected digit where active."""
    above_zero = np.maximum(expit(signals.odds_LR), 1e-6)
    strength_LR = np.clip(signals.expected_LR / above_zero, 0, 9)
    return (
        (signals.odds_LR - average_L[:, None]).astype(np.float32),
        signals.odds_LR.astype(np.float32),
        strength_LR.astype(np.float32),
    )


def fit_posterior(
    signals: Signals,
    truth_LR: npt.NDArray[np.floating],
    latents: Latents,
    groups: int = 3,
    independent: float = 0.5,
    most_pairs: int = 200_000,
    seed: int = 0,
) -> Posterior:
    """Fit on the calibration reads.

    `signals` and the true activations `truth_LR` (0 = inactive) are [latents, reads]; `latents` holds what is known
    from other rows. Reads whose prediction failed are left out.
    """
    finite_LR = ~np.isnan(signals.odds_LR)
    average_L = logit(_mean(expit(signals.odds_LR.astype(np.float64)), finite_LR))
    features = features_of(signals, average_L)
    active_LR = truth_LR > 0
    rate_L = latents.density_L
    usable_LR = finite_LR & ((rate_L > 0) & (rate_L < 1))[:, None]
    picked, weight_N = _sample(usable_LR, active_LR, most_pairs, seed)
    sample = tuple(feature.reshape(-1)[picked] for feature in features)
    active_N = active_LR.reshape(-1)[picked]
    nothing = Curve(np.zeros((len(features), KNOTS)), np.zeros((len(features), KNOTS)))
    if not active_N.any() or active_N.all():  # no activity to learn from: every latent gets its mean
        return _finish(nothing, nothing, signals, average_L, np.zeros(len(rate_L)), latents)

    latent_N = picked // truth_LR.shape[1]
    # as much weight of the knots on the active pairs as on the others
    balance_N = np.where(active_N, weight_N / weight_N[active_N].sum(), weight_N / weight_N[~active_N].sum())
    knot_FK = knots_for(sample, balance_N, KNOTS)
    curve, intercept_L = nothing, logit(rate_L)
    for _ in range(ROUNDS):
        curve = fit_log_odds(sample, active_N, intercept_L[latent_N], weight_N, knot_FK, start=curve)
        curve_LR = np.where(finite_LR, curve(features), np.nan).astype(np.float32)
        intercept_L = intercepts(curve_LR, np.ones(len(rate_L)), rate_L)
        intercept_L = np.where(np.isfinite(intercept_L), intercept_L, logit(rate_L))
    slope_L = fit_slopes(curve_LR, active_LR, rate_L, latents.score_L, groups, independent).slope_L

    strong_N = active_N & (latents.active_mean_L[latent_N] > 0)
    size_N = truth_LR.reshape(-1)[picked][strong_N] / latents.active_mean_L[latent_N[strong_N]]
    size = fit_mean(tuple(x[strong_N] for x in sample), np.minimum(size_N, 10), weight_N[strong_N], knot_FK)
    return _finish(curve, size, signals, average_L, slope_L, latents)


def _finish(
    curve: Curve, size: Curve, signals: Signals, average_L: Float64, slope_L: Float64, latents: Latents
) -> Posterior:
    """Set each latent's intercept and centre so that its mean probability and mean value are what they should be."""
    features = features_of(signals, average_L)
    finite_LR = ~np.isnan(signals.odds_LR)
    curve_LR = np.where(finite_LR, curve(features), np.nan).astype(np.float32)
    intercept_L = np.clip(intercepts(curve_LR, slope_L, latents.density_L), -80, 80)
    probability_LR = expit(intercept_L[:, None] + slope_L[:, None] * np.nan_to_num(curve_LR))
    centre_L = _mean(np.nan_to_num(size(features)), finite_LR * probability_LR)
    return Posterior(
        curve, size, average_L, intercept_L, slope_L, centre_L, latents.active_mean_L.astype(np.float64), latents.mean_L
    )


def _mean(value_LR: npt.NDArray[np.floating], weight_LR: npt.NDArray[np.generic]) -> Float64:
    """Weighted mean of each row; 0 where there is no weight."""
    weight = weight_LR.astype(np.float64)
    total_L = weight.sum(1)
    summed_L = (np.where(weight > 0, value_LR, 0) * weight).sum(1)
    return np.divide(summed_L, total_L, out=np.zeros(len(total_L)), where=total_L > 0)


def _sample(
    usable_LR: npt.NDArray[np.bool_], active_LR: npt.NDArray[np.bool_], most: int, seed: int
) -> tuple[npt.NDArray[np.int64], Float64]:
    """At most `most` pairs (flat indices), the active ones first, with weights that make them stand for all pairs."""
    generator = np.random.default_rng(seed)
    picked: list[npt.NDArray[np.int64]] = []
    weights: list[Float64] = []
    room = most // 2
    for candidates in (np.flatnonzero(usable_LR & active_LR), np.flatnonzero(usable_LR & ~active_LR)):
        enough = candidates.size <= room
        chosen = candidates if enough else np.sort(generator.choice(candidates, room, replace=False))
        picked.append(chosen)
        weights.append(np.full(chosen.size, candidates.size / max(chosen.size, 1)))
        room = most - chosen.size
    return np.concatenate(picked), np.concatenate(weights)
