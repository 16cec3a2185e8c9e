"""(c) The posterior mean E[activation | prediction], in the light of the latent's base rate.

    P     = expit(intercept_l + slope_l · f(signals))                        chance of any activation
    value = mean_l + min(slope_l, 1) · unit_l · (h(signals, P) - centre_l)   not below 0; unit: robust maximum / 9

f and h are monotone curves fitted on all latents together, f by log loss, h by squared error in the coder's output;
slope_l says how far latent l's predictions are trusted (empirical Bayes, see `slopes`); intercept_l and centre_l make
the mean of P and of the values over the calibration reads the latent's base rate and mean. So a latent's values are
right on average whatever its predictions, and predictions that say nothing give its mean: mean ablation is what this
map falls back to, and signal can only improve on it in expectation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nlsim.calibrate.curves import Curve, fit_centred, fit_log_odds, knots_for
from nlsim.calibrate.signals import Latents, Signals, logit
from nlsim.calibrate.slopes import fit_slopes, intercepts

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

KNOTS = 9
CENTRING = 12  # steps of Newton's method
ROUNDS = 3  # of fitting the shared curve and the latents' intercepts in turn


class Posterior(NamedTuple):
    """The fitted map: curves shared by all latents, and the latents' own numbers."""

    odds_curve: Curve
    value_curve: Curve
    average_L: Float64
    """Log-odds of the latent's mean predicted probability: what its signals are relative to."""
    intercept_L: Float64
    slope_L: Float64
    centre_L: Float64
    unit_L: Float64
    """Activation per digit: robust maximum / 9."""
    active_mean_L: Float64
    mean_L: Float64
    """Mean activation: the value where the prediction failed."""

    def probability(self, signals: Signals) -> Float32:
        """P(active) [latents, reads]; NaN where the prediction failed."""
        curve_LR = self.odds_curve(features_of(signals, self.average_L))
        odds_LR = np.clip(self.intercept_L, -80, 80)[:, None] + self.slope_L[:, None] * curve_LR
        return np.where(np.isnan(signals.odds_LR), np.nan, expit(odds_LR)).astype(np.float32)

    def values(self, signals: Signals) -> Float32:
        """Posterior mean activations [latents, reads], never negative; the latent's mean where the prediction
        failed."""
        probability_LR = self.probability(signals)
        curve_LR = self.value_curve(value_features(signals, probability_LR, self.unit_L, self.active_mean_L))
        reach_L1 = (np.minimum(self.slope_L, 1) * self.unit_L)[:, None]
        value_LR = np.maximum(self.mean_L[:, None] + reach_L1 * (curve_LR - self.centre_L[:, None]), 0)
        return np.where(np.isnan(probability_LR), self.mean_L[:, None], value_LR).astype(np.float32)

    def of(self, place: int) -> "Posterior":
        """The map of one latent alone, by its place."""
        return self._replace(**{f"{name}_L": getattr(self, f"{name}_L")[place : place + 1] for name in PER_LATENT})

    def to_arrays(self) -> dict[str, Float64]:
        """The whole map as named arrays."""
        return {
            "odds_knots": self.odds_curve.knot_FK,
            "odds_rises": self.odds_curve.rise_FK,
            "value_knots": self.value_curve.knot_FK,
            "value_rises": self.value_curve.rise_FK,
            **{name: getattr(self, name + "_L") for name in PER_LATENT},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Float64]) -> "Posterior":
        """The map stored by `to_arrays`."""
        odds = Curve(arrays["odds_knots"], arrays["odds_rises"])
        value = Curve(arrays["value_knots"], arrays["value_rises"])
        return cls(odds, value, **{name + "_L": arrays[name] for name in PER_LATENT})


PER_LATENT = ("average", "intercept", "slope", "centre", "unit", "active_mean", "mean")


def features_of(signals: Signals, average_L: npt.NDArray[np.floating]) -> tuple[Float32, ...]:
    """Inputs of the shared curves: log-odds relative to the latent's average, log-odds, expected digit where active."""
    return (
        (signals.odds_LR - average_L[:, None]).astype(np.float32),
        signals.odds_LR.astype(np.float32),
        _strength(signals),
    )


def value_features(
    signals: Signals, probability_LR: Float32, unit_L: Float64, active_mean_L: Float64
) -> tuple[Float32, ...]:
    """Inputs of the value curve, all in digits: the expected digit as predicted; the same with the calibrated chance of
    activity; and the latent's mean activation with that chance, for predictions whose digits say nothing of size."""
    size_L1 = np.divide(active_mean_L, unit_L, out=np.zeros(len(unit_L)), where=unit_L > 0)[:, None]
    return (
        signals.expected_LR.astype(np.float32),
        (probability_LR * _strength(signals)).astype(np.float32),
        (probability_LR * np.minimum(size_L1, 9)).astype(np.float32),
    )


def _strength(signals: Signals) -> Float32:
    """Expected digit given that it is not 0."""
    above_zero_LR = np.maximum(expit(signals.odds_LR), 1e-6)
    return np.asarray(np.clip(signals.expected_LR / above_zero_LR, 0, 9), np.float32)


def fit_posterior(
    signals: Signals,
    truth_LR: npt.NDArray[np.floating],
    latents: Latents,
    weight_L: npt.NDArray[np.floating] | None = None,
    groups: int = 3,
    independent: float = 0.5,
    most_pairs: int = 200_000,
    seed: int = 0,
) -> Posterior:
    """Fit on the calibration reads.

    `signals` and the true activations `truth_LR` (0 = inactive) are [latents, reads]; `latents` holds what is known
    from other rows. `weight_L`: what a squared error in each latent's activation costs (its squared decoder norm);
    none: the same for all. Reads whose prediction failed are left out.
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
        return _finish(nothing, signals, average_L, np.zeros(len(rate_L)), latents)

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

    fitted = _finish(curve, signals, average_L, slope_L, latents)
    inputs = value_features(signals, fitted.probability(signals), fitted.unit_L, fitted.active_mean_L)
    known_LR = active_LR & finite_LR
    value_knot_FK = np.array([_digit_knots(feature[known_LR]) for feature in inputs])
    cost_L = (np.ones(len(rate_L)) if weight_L is None else weight_L.astype(np.float64)) * fitted.unit_L**2
    unit_L1 = np.maximum(fitted.unit_L, 1e-12)[:, None]
    values = fit_centred(inputs, truth_LR / unit_L1, np.minimum(slope_L, 1), cost_L, value_knot_FK)
    return _centred(fitted._replace(value_curve=values), signals)


def _digit_knots(sample_N: Float32) -> Float64:
    """Knots from 0 on: halfway between quantiles among active pairs and even spacing."""
    quantile_K = np.quantile(sample_N, np.linspace(0, 1, KNOTS)) * np.append(0, np.ones(KNOTS - 1))
    return (quantile_K + np.linspace(0, max(quantile_K[-1], 1e-3), KNOTS)) / 2


def _finish(curve: Curve, signals: Signals, average_L: Float64, slope_L: Float64, latents: Latents) -> Posterior:
    """The map with each latent's intercept set so that its mean probability is its base rate, and values its mean."""
    features = features_of(signals, average_L)
    curve_LR = np.where(np.isnan(signals.odds_LR), np.nan, curve(features)).astype(np.float32)
    intercept_L = np.clip(intercepts(curve_LR, slope_L, latents.density_L), -80, 80)
    zero_L = np.zeros(len(slope_L))
    none = Curve(np.zeros((3, KNOTS)), np.zeros((3, KNOTS)))
    unit_L, active_mean_L = latents.robust_max_L.astype(np.float64) / 9, latents.active_mean_L.astype(np.float64)
    return Posterior(curve, none, average_L, intercept_L, slope_L, zero_L, unit_L, active_mean_L, latents.mean_L)


def _centred(fitted: Posterior, signals: Signals) -> Posterior:
    """Set each latent's centre so that the mean of its values over the finite reads, those cut at 0 included, is its
    mean."""
    probability_LR = fitted.probability(signals)
    heard_LR = ~np.isnan(probability_LR)
    curve_LR = fitted.value_curve(value_features(signals, probability_LR, fitted.unit_L, fitted.active_mean_L))
    reach_L = np.minimum(fitted.slope_L, 1) * fitted.unit_L
    centre_L = _mean(curve_LR, heard_LR)
    for _ in range(CENTRING):  # Newton's method on a convex, falling function of the centre: no step overshoots
        value_LR = fitted.mean_L[:, None] + reach_L[:, None] * (curve_LR - centre_L[:, None])
        excess_L = _mean(np.maximum(value_LR, 0), heard_LR) - fitted.mean_L
        rate_L = reach_L * _mean((value_LR > 0).astype(np.float32), heard_LR)
        centre_L = centre_L + np.divide(excess_L, rate_L, out=np.zeros(len(rate_L)), where=rate_L > 0)
    return fitted._replace(centre_L=centre_L)


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
