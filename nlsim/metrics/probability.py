"""How good stated probabilities are: proper scores and reliability.

Brier, G. W. (1950), Verification of forecasts expressed in terms of probability. A proper score is least in expectation
only for the true probability, so it rewards both telling active from inactive and saying how sure one is.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.metrics.arrays import FloatArray, answered, ratio, weights_like
from nlsim.metrics.intervals import normal_quantile, wilson_bounds


def brier(truth: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Mean squared difference between the probability of "active" and what was (0 or 1). NaN answers are left out."""
    truth_N, probability_N, weight_N, _ = answered(truth, probability, weight)
    return ratio(float(weight_N @ (probability_N - truth_N) ** 2), float(weight_N.sum()))


def log_loss(
    truth: npt.ArrayLike, probability: npt.ArrayLike, weight: npt.ArrayLike | None = None, floor: float = 1e-6
) -> float:
    """Mean negative log-probability (nats) of what was. Probabilities are kept in [floor, 1 - floor]: an answer of
    exactly 0 costs -log(floor), not infinity. NaN answers are left out."""
    truth_N, probability_N, weight_N, _ = answered(truth, probability, weight)
    kept_N = np.clip(probability_N, floor, 1 - floor)
    return ratio(float(weight_N @ -np.log(np.where(truth_N, kept_N, 1 - kept_N))), float(weight_N.sum()))


class Reliability(NamedTuple):
    """A reliability diagram: bins of the prediction, lowest first; empty bins are left out."""

    predicted_B: FloatArray
    """Mean prediction in the bin."""
    observed_B: FloatArray
    """Mean of what was: a rate for labels, a mean for values."""
    low_B: FloatArray
    high_B: FloatArray
    """95 % interval of `observed_B`: Wilson for labels, normal for values."""
    count_B: FloatArray
    """Members of the bin."""
    share_B: FloatArray
    """Share of the whole weight that is in the bin."""


def reliability(
    observed: npt.ArrayLike,
    predicted: npt.ArrayLike,
    bins: int = 10,
    spacing: str = "quantile",
    weight: npt.ArrayLike | None = None,
) -> Reliability:
    """Bin the predictions and compare their mean with the mean of what was.

    `observed` is boolean (labels) or real (values), of the shape of `predicted`. `spacing` "quantile" puts equal counts
    in the bins (equal predictions stay together), "uniform" equal widths between the least and the largest prediction.
    NaN pairs are left out.
    """
    is_label = np.asarray(observed).dtype == bool
    observed_N = np.asarray(observed, dtype=np.float64).ravel()
    predicted_N = np.asarray(predicted, dtype=np.float64).ravel()
    weight_N = weights_like(predicted_N, weight)
    kept_N = ~(np.isnan(observed_N) | np.isnan(predicted_N)) & (weight_N > 0)
    observed_N, predicted_N, weight_N = observed_N[kept_N], predicted_N[kept_N], weight_N[kept_N]
    if not predicted_N.size:
        return Reliability(*(np.zeros(0) for _ in range(6)))
    if spacing == "quantile":
        edges = np.quantile(predicted_N, np.linspace(0, 1, bins + 1)[1:-1])
    elif spacing == "uniform":
        edges = np.linspace(predicted_N.min(), predicted_N.max(), bins + 1)[1:-1]
    else:
        raise ValueError(f"spacing {spacing!r} is neither 'quantile' nor 'uniform'")
    bin_N = np.searchsorted(np.unique(edges), predicted_N, side="right")
    _, bin_N = np.unique(bin_N, return_inverse=True)
    mass_B = np.bincount(bin_N, weight_N)
    count_B = np.bincount(bin_N).astype(np.float64)
    mean_B = np.bincount(bin_N, weight_N * observed_N) / mass_B
    # Kish's effective number: what the weights leave of the count
    effective_B = mass_B**2 / np.bincount(bin_N, weight_N**2)
    if is_label:
        low_B, high_B = wilson_bounds(mean_B, effective_B)
    else:
        variance_B = np.bincount(bin_N, weight_N * (observed_N - mean_B[bin_N]) ** 2) / mass_B
        half_B = normal_quantile(0.975) * np.sqrt(variance_B / np.maximum(effective_B - 1, 1))
        low_B, high_B = mean_B - half_B, mean_B + half_B
    predicted_B = np.bincount(bin_N, weight_N * predicted_N) / mass_B
    return Reliability(predicted_B, mean_B, low_B, high_B, count_B, mass_B / mass_B.sum())


def calibration_error(diagram: Reliability) -> float:
    """Expected calibration error: mean absolute gap between predicted and observed over the bins, by their share."""
    return float(diagram.share_B @ np.abs(diagram.predicted_B - diagram.observed_B)) if diagram.share_B.size else np.nan
