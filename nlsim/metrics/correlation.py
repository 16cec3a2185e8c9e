"""Correlations with intervals, and the mean of one quantity along another."""

import numpy as np
import numpy.typing as npt

from nlsim.metrics.arrays import FloatArray, weights_like
from nlsim.metrics.intervals import Estimate, normal_quantile


def pearson(x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Pearson's correlation with Fisher's z interval (members independent). NaN pairs are left out; NaN when either is
    constant."""
    x_N, y_N, weight_N = _pairs(x, y, weight)
    return _with_fisher(_correlation(x_N, y_N, weight_N), x_N.size, 1.0, level)


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, level: float = 0.95) -> Estimate:
    """Spearman's rank correlation (midranks) with the interval of Bonett & Wright (2000)."""
    x_N, y_N, weight_N = _pairs(x, y, None)
    value = _correlation(midranks(x_N), midranks(y_N), weight_N)
    return _with_fisher(value, x_N.size, 1 + value**2 / 2, level)


def midranks(value: npt.ArrayLike) -> FloatArray:
    """Ranks from 1, equal values sharing the mean of their ranks."""
    value_N = np.asarray(value, dtype=np.float64).ravel()
    _, inverse_N, count_U = np.unique(value_N, return_inverse=True, return_counts=True)
    last_U = np.cumsum(count_U)
    return (last_U - (count_U - 1) / 2)[inverse_N]


def _pairs(
    x: npt.ArrayLike, y: npt.ArrayLike, weight: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    x_N, y_N = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    if x_N.shape != y_N.shape:
        raise ValueError(f"{x_N.size} values paired with {y_N.size}")
    weight_N = weights_like(x_N, weight)
    kept_N = ~(np.isnan(x_N) | np.isnan(y_N))
    return x_N[kept_N], y_N[kept_N], weight_N[kept_N]


def _correlation(x_N: FloatArray, y_N: FloatArray, weight_N: FloatArray) -> float:
    total = weight_N.sum()
    if x_N.size < 2 or total == 0 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return float("nan")
    x_N = x_N - weight_N @ x_N / total
    y_N = y_N - weight_N @ y_N / total
    scale = np.sqrt((weight_N @ x_N**2) * (weight_N @ y_N**2))
    return float(np.clip(weight_N @ (x_N * y_N) / scale, -1, 1)) if scale > 0 else float("nan")


def _with_fisher(value: float, n: int, variance: float, level: float) -> Estimate:
    """Interval on the arctanh scale, where the estimate's variance is `variance` / (n - 3)."""
    if np.isnan(value) or n <= 3 or abs(value) == 1:
        return Estimate(value, float("nan"), float("nan"), n)
    half = normal_quantile((1 + level) / 2) * np.sqrt(variance / (n - 3))
    return Estimate(value, float(np.tanh(np.arctanh(value) - half)), float(np.tanh(np.arctanh(value) + half)), n)
