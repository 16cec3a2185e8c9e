"""Monotone curves shared by all latents: sums of piecewise-linear functions of the signals that never fall.

A latent's signals enter twice: raw, and relative to the latent's own average. If a simulator weighs the evidence
rightly but has a wrong idea of how often a latent is active, only the relative one matters; if it is right about that
too, both agree; the data decide the mixture.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.special import expit

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

NEWTON_STEPS = 30


class Curve(NamedTuple):
    """f(x_1 … x_F) = sum of F non-decreasing piecewise-linear functions, each 0 at its first knot and flat outside."""

    knot_FK: Float64
    rise_FK: Float64
    """How much function f rises between knots k and k + 1; the last column is 0."""

    def __call__(self, features: tuple[Float32, ...]) -> Float32:
        """Value for features of one shape."""
        total = np.zeros(features[0].shape, dtype=np.float32)
        for x, knot_K, rise_K in zip(features, self.knot_FK, self.rise_FK, strict=True):
            level_K = np.append(0.0, np.cumsum(rise_K[:-1]))
            total += np.interp(x, knot_K, level_K).astype(np.float32)
        return total


def knots_for(samples: tuple[npt.NDArray[np.floating], ...], weight_N: Float64, knots: int) -> Float64:
    """Knots [features, knots]: quantiles of each sample under the weights, spread out where quantiles coincide."""
    rows = []
    for sample_N in samples:
        order_N = np.argsort(sample_N)
        rank_N = np.cumsum(weight_N[order_N])
        level_K = np.linspace(0, 1, knots) * rank_N[-1]
        at_K = np.minimum(np.searchsorted(rank_N, level_K), sample_N.size - 1)
        found_K = sample_N[order_N][at_K].astype(np.float64)
        # halfway between quantiles and even spacing: neither long empty stretches nor knots on top of each other
        rows.append((found_K + np.linspace(found_K[0], max(found_K[-1], found_K[0] + 1e-3), knots)) / 2)
    return np.array(rows)


def _basis(features: tuple[npt.NDArray[np.floating], ...], knot_FK: Float64) -> Float64:
    """Columns [N, F · (K - 1)]: how far along each segment a value is, 0 to 1."""
    columns = []
    for x_N, knot_K in zip(features, knot_FK, strict=True):
        width_S = np.maximum(np.diff(knot_K), 1e-9)
        columns.append(np.clip((x_N[:, None] - knot_K[:-1]) / width_S, 0, 1))
    return np.concatenate(columns, axis=1)


def _curve(knot_FK: Float64, coefficient_S: Float64) -> Curve:
    rise = coefficient_S.reshape(knot_FK.shape[0], -1)
    return Curve(knot_FK, np.concatenate([rise, np.zeros((len(rise), 1))], axis=1))


def fit_log_odds(
    features: tuple[npt.NDArray[np.floating], ...],
    active_N: npt.NDArray[np.bool_],
    offset_N: npt.NDArray[np.floating],
    weight_N: Float64,
    knot_FK: Float64,
    start: Curve | None = None,
    ridge: float = 1.0,
) -> Curve:
    """Curve f of least penalised log loss in P(active) = expit(offset + c + f(x)), rises never negative.

    c is a free constant and is dropped: each latent's own constant is set afterwards. The penalty `ridge` / 2 · sum of
    squared rises is in units of pairs. Projected Newton steps from `start` (a curve on the same knots), halved until
    the loss falls.
    """
    basis_NS = np.append(_basis(features, knot_FK), np.ones((active_N.size, 1)), axis=1)
    penalty_S = np.append(np.full(basis_NS.shape[1] - 1, ridge), 0.0)
    target_N = active_N.astype(np.float64)

    def loss(parameter_S: Float64) -> float:
        odds_N = offset_N + basis_NS @ parameter_S
        return float(weight_N @ (np.logaddexp(0, odds_N) - target_N * odds_N) + penalty_S @ parameter_S**2 / 2)

    parameter_S = np.zeros(basis_NS.shape[1])
    if start is not None:
        parameter_S[:-1] = start.rise_FK[:, :-1].reshape(-1)
    value = loss(parameter_S)
    for _ in range(NEWTON_STEPS):
        chance_N = expit(offset_N + basis_NS @ parameter_S)
        slope_S = basis_NS.T @ (weight_N * (chance_N - target_N)) + penalty_S * parameter_S
        curvature_N = weight_N * np.maximum(chance_N * (1 - chance_N), 1e-6)
        hessian_SS = basis_NS.T @ (basis_NS * curvature_N[:, None]) + np.diag(penalty_S + 1e-6)
        step_S = _least(hessian_SS, hessian_SS @ parameter_S - slope_S, free=1) - parameter_S
        length = 1.0
        while (new := loss(parameter_S + length * step_S)) > value and length > 1e-3:
            length /= 2
        if new > value - 1e-6 * abs(value):
            break
        parameter_S, value = parameter_S + length * step_S, new
    return _curve(knot_FK, np.maximum(parameter_S[:-1], 0))


def fit_centred(
    features: tuple[Float32, ...],
    target_LR: npt.NDArray[np.floating],
    trust_L: Float64,
    weight_L: Float64,
    knot_FK: Float64,
    ridge: float = 5.0,
) -> Curve:
    """Curve h of least squared error of  mean_l + trust_l · (h(x_lr) - its mean over r)  to the targets, rises not
    negative.

    mean_l is the targets' own mean, so only variation within latents counts. All arrays are [latents, reads], pairs
    with a NaN feature left out. `ridge` is in units of average pairs.
    """
    size = knot_FK.shape[0] * (knot_FK.shape[1] - 1)
    gram_SS, moment_S, total = np.zeros((size, size)), np.zeros(size), 0.0
    for i in np.flatnonzero((weight_L > 0) & (trust_L > 0)):
        heard_R = ~np.isnan(features[0][i])
        if not heard_R.any():
            continue
        basis_RS = trust_L[i] * _basis(tuple(x_LR[i, heard_R] for x_LR in features), knot_FK)
        basis_RS -= basis_RS.mean(0)
        gram_SS += weight_L[i] * (basis_RS.T @ basis_RS)
        moment_S += weight_L[i] * (basis_RS.T @ target_LR[i, heard_R])
        total += weight_L[i]
    if total == 0:
        return Curve(knot_FK, np.zeros_like(knot_FK))
    gram_SS += np.diag(np.full(size, ridge * total / np.count_nonzero(weight_L)))
    return _curve(knot_FK, _least(gram_SS, moment_S, free=0))


def _least(hessian_SS: Float64, linear_S: Float64, free: int) -> Float64:
    """The x that makes x'Hx/2 - linear·x least with all but the last `free` entries not negative: non-negative least
    squares through the Cholesky factor of H, a free entry being a difference of two."""
    factor_SS = np.linalg.cholesky(hessian_SS).T
    right_S = np.linalg.solve(factor_SS.T, linear_S)
    size = len(linear_S)
    found = nnls(np.concatenate([factor_SS, -factor_SS[:, size - free :]], axis=1), right_S)[0]
    found[size - free : size] -= found[size:]
    return np.asarray(found[:size])
