"""Quality of predictions: the per-read sums give what the plain definitions give."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from nlsim.calibrate.quality import judge_digits, judge_probabilities, judge_values
from nlsim.metrics.classification import auc, confusion
from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.probability import brier, log_loss
from nlsim.metrics.rows import metric_row

GENERATOR = np.random.default_rng(4)
LATENTS, READS = 1500, 40


def sample() -> tuple[np.ndarray, np.ndarray]:
    active = GENERATOR.random((LATENTS, READS)) < 0.01
    probability = np.clip(GENERATOR.normal(np.where(active, 0.6, 0.2), 0.15), 0, 1).astype(np.float32)
    probability[:7, :5] = np.nan
    return active, probability


def test_sums_by_read_give_the_plain_metrics() -> None:
    active, probability = sample()
    judged = judge_probabilities(
        active, probability, Bootstrap(np.arange(READS) // 4, draws=200), 10, {"values": "raw"}
    )
    got = {row["name"]: row for row in judged.rows}
    counts = confusion(active, probability)
    for name in ("recall", "specificity", "balanced_accuracy", "precision", "f1"):
        assert got[name]["value"] == pytest.approx(getattr(counts, name)), name
        assert got[name]["low"] <= got[name]["value"] <= got[name]["high"]
    assert got["brier"]["value"] == pytest.approx(brier(active, probability), rel=1e-5)
    assert got["log_loss"]["value"] == pytest.approx(log_loss(active, probability), rel=1e-5)
    own = [auc(a, p) for a, p in zip(active, probability, strict=True)]
    assert got["auc"]["value"] == pytest.approx(np.nanmean(own))
    assert got["auc"]["n"] == np.isfinite(own).sum()
    assert got["failed"]["value"] == pytest.approx(35 / (LATENTS * READS))
    assert got["brier"]["n"] == LATENTS * READS - 35
    assert got["active_per_token"]["value"] == pytest.approx((counts.tp + counts.fn) / READS)


def test_precision_of_the_published_pool_is_higher_than_the_true_one() -> None:
    """Mistake 33: precision and F1 belonged to a pool of 1,000 inactive latents, not to the dictionary."""
    active, probability = sample()
    judged = judge_probabilities(active, probability, Bootstrap(np.arange(READS)), 10, {})
    got = {row["name"]: row["value"] for row in judged.rows}
    inactive = (~active & ~np.isnan(probability)).sum(0)
    false = (~active & (probability >= 0.5)).sum(0) * 1000 / inactive
    true = (active & (probability >= 0.5)).sum(0)
    assert got["precision_of_pool"] == pytest.approx(true.sum() / (true.sum() + false.sum()))
    assert got["precision_of_pool"] > got["precision"]


def test_value_errors_are_relative_to_mean_ablation() -> None:
    truth = GENERATOR.gamma(1, 1, (5, READS)).astype(np.float32)
    near = truth + GENERATOR.normal(0, 0.3, truth.shape).astype(np.float32)
    mean = truth.mean(1).astype(np.float64)
    failed = np.full_like(truth, np.nan)
    flat = np.broadcast_to(mean[:, None], truth.shape).astype(np.float32)
    values = {"near": near, "flat": flat, "failed": failed}
    rows = judge_values(truth, values, mean, np.ones(5, np.float32), Bootstrap(np.arange(READS)))
    got = {row["condition"]["values"]: row["value"] for row in rows}
    assert got["near"] == pytest.approx(1 - r2_score(truth.T, near.T, multioutput="variance_weighted"), rel=1e-4)
    assert got["flat"] == pytest.approx(1, rel=1e-5)
    assert got["failed"] == pytest.approx(1, rel=1e-5)


def test_digits_are_compared_with_relative_sizes() -> None:
    unit = np.array([1.0, 100.0], np.float32)
    truth = np.abs(GENERATOR.normal(size=(2, READS)) * unit[:, None]).astype(np.float32)
    (row,) = judge_digits(truth, truth / unit[:, None] * 3, unit, {"explanation": "own"})
    assert row["value"] == pytest.approx(1)
    assert row["n"] == 2 * READS


def test_rows_have_no_numbers_that_json_lacks() -> None:
    row = metric_row("x", float("nan"), "nats", {"a": 1}, 3)
    assert row == {"name": "x", "condition": {"a": 1}, "value": None, "low": None, "high": None, "n": 3, "unit": "nats"}
