"""How good predictions are, as rows of metrics.json: as they come and calibrated, at the true prevalence.

Every latent under study is asked about at every read, so nothing is sampled and the plain counts are those at the true
prevalence. The published pool of 1,000 inactive latents per position is shown beside it, by weighting.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr

from nlsim.metrics.arrays import ratio
from nlsim.metrics.classification import auc
from nlsim.metrics.intervals import Bootstrap, Estimate
from nlsim.metrics.probability import Reliability, calibration_error, reliability
from nlsim.metrics.rows import Row, metric_row

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
PUBLISHED_POOL = 1000  # inactive latents asked about at a position in the published evaluation
FLOOR = 1e-6


class Judged(NamedTuple):
    """Metric rows and the reliability diagram behind them."""

    rows: list[Row]
    diagram: Reliability
    auc_L: npt.NDArray[np.float64]
    """AUC of each latent over the reads; NaN without both classes."""


def judge_probabilities(
    active_LR: Bool, probability_LR: Float32, bootstrap: Bootstrap, bins: int, condition: Mapping[str, str]
) -> Judged:
    """Recall, precision, F1, balanced accuracy (at probability ½), AUC, Brier, log loss and calibration error.

    `bootstrap` has the document of each read. Failed (NaN) predictions are left out and counted in `failed`. Sums over
    latents are kept by read; their ratios are resampled by document.
    """
    answered_LR = ~np.isnan(probability_LR)
    found_LR = probability_LR >= 0.5  # NaN compares false
    hit_R = (active_LR & found_LR).sum(0).astype(np.float64)
    miss_R = (active_LR & answered_LR & ~found_LR).sum(0).astype(np.float64)
    false_R = (~active_LR & found_LR).sum(0).astype(np.float64)
    idle_R = (~active_LR & answered_LR).sum(0).astype(np.float64)
    answered_R = answered_LR.sum(0).astype(np.float64)
    kept_LR = np.clip(np.nan_to_num(probability_LR), FLOOR, 1 - FLOOR)
    squared_R = np.where(answered_LR, (np.nan_to_num(probability_LR) - active_LR) ** 2, 0).sum(0, dtype=np.float64)
    surprise_R = np.where(answered_LR, -np.log(np.where(active_LR, kept_LR, 1 - kept_LR)), 0).sum(0, dtype=np.float64)
    pool_R = np.divide(PUBLISHED_POOL, idle_R, out=np.zeros_like(idle_R), where=idle_R > 0)
    pooled_R = false_R * np.minimum(pool_R, 1)

    pairs = int(answered_R.sum())
    recall = bootstrap.ratio(hit_R, hit_R + miss_R)
    specificity = bootstrap.ratio(idle_R - false_R, idle_R)
    auc_L = np.array([auc(active, p) for active, p in zip(active_LR, probability_LR, strict=True)])
    diagram = reliability(active_LR[answered_LR], probability_LR[answered_LR], bins)
    estimates: dict[str, tuple[Estimate, str]] = {
        "recall": (recall, "share"),
        "specificity": (specificity, "share"),
        "balanced_accuracy": (_half_sum(bootstrap, (hit_R, hit_R + miss_R), (idle_R - false_R, idle_R)), "share"),
        "precision": (bootstrap.ratio(hit_R, hit_R + false_R), "share"),
        "precision_of_pool": (bootstrap.ratio(hit_R, hit_R + pooled_R), "share"),
        "f1": (bootstrap.ratio(2 * hit_R, 2 * hit_R + false_R + miss_R), "share"),
        "selected_per_token": (bootstrap.mean(hit_R + false_R), "latents"),
        "active_per_token": (bootstrap.mean(hit_R + miss_R), "latents"),
        "brier": (bootstrap.ratio(squared_R, answered_R), "squared probability"),
        "log_loss": (bootstrap.ratio(surprise_R, answered_R), "nats"),
        "auc": (_over_latents(auc_L), "share"),
        "failed": (bootstrap.ratio(len(active_LR) - answered_R, np.full(answered_R.shape, len(active_LR))), "share"),
    }
    rows = [metric_row(name, found._replace(n=pairs), unit, condition) for name, (found, unit) in estimates.items()]
    rows[-2]["n"] = int(np.isfinite(auc_L).sum())
    rows.append(metric_row("calibration_error", calibration_error(diagram), "probability", condition, pairs))
    return Judged(rows, diagram, auc_L)


def judge_values(
    truth_LR: Float32,
    values: dict[str, Float32],
    mean_L: npt.NDArray[np.float64],
    unit_L: Float32,
    bootstrap: Bootstrap,
) -> list[Row]:
    """Fraction of variance unexplained in the space of activations, for each kind of values.

    Squared error over that of the latents' means, each latent in units of its `unit_L` (its mean activation where
    active times decoder norm, say, or the decoder norm alone). 1 is mean ablation's; above 1 is worse than it. Failed
    values count as the mean.
    """
    base_R = (((truth_LR - mean_L[:, None]) * unit_L[:, None]) ** 2).sum(0, dtype=np.float64)
    rows = []
    for name, value_LR in values.items():
        filled_LR = np.where(np.isnan(value_LR), mean_L[:, None], value_LR)
        error_R = (((truth_LR - filled_LR) * unit_L[:, None]) ** 2).sum(0, dtype=np.float64)
        rows.append(metric_row("activation_fvu", bootstrap.ratio(error_R, base_R), "share", {"values": name}))
    return rows


def judge_digits(truth_LR: Float32, expected_LR: Float32, unit_L: Float32, condition: Mapping[str, str]) -> list[Row]:
    """Does the expected digit follow the size of true activations? Pearson's correlation over active pairs, activations
    in units of their latent's mean."""
    active_LR = (truth_LR > 0) & ~np.isnan(expected_LR) & (unit_L[:, None] > 0)
    relative_LR = np.divide(truth_LR, unit_L[:, None], out=np.zeros_like(truth_LR), where=active_LR)
    return [
        metric_row(
            "digit_correlation", _pearson(expected_LR[active_LR], relative_LR[active_LR]), "correlation", condition
        )
    ]


def _pearson(x_N: Float32, y_N: Float32) -> Estimate:
    """Pearson's correlation with Fisher's z interval (members independent); NaN when either is constant."""
    if x_N.size < 4 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), x_N.size)
    found = pearsonr(x_N.astype(np.float64), y_N.astype(np.float64))
    interval = found.confidence_interval()
    return Estimate(float(found.statistic), float(interval.low), float(interval.high), x_N.size)


def _half_sum(bootstrap: Bootstrap, *parts: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> Estimate:
    """Mean of ratios of sums, documents resampled."""
    value = float(np.mean([ratio(float(top.sum()), float(bottom.sum())) for top, bottom in parts]))
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = [bootstrap.totals(top) / bootstrap.totals(bottom) for top, bottom in parts]
    return bootstrap.estimate(value, np.mean(draws, axis=0), 0)


def _over_latents(value_L: npt.NDArray[np.float64]) -> Estimate:
    """Mean over latents, with latents as the unit that is resampled."""
    known = value_L[np.isfinite(value_L)]
    return Bootstrap(np.arange(known.size)).mean(known)
