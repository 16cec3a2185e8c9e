"""Scores against the quality of simulation: planted relations, with and without density behind them."""

import numpy as np
import pytest
from blog.pairs_of import pairs_of

from nlsim.blog.predictive import LatentQuality, adjust, latent_quality, predictive_rows
from nlsim.report.gather import Metrics


def test_quality_of_each_latent_by_hand() -> None:
    found = latent_quality(
        pairs_of(
            [[0.9, 0.1, 0.2], [0.2, 0.7, 0.9], [0.6, 0.8, np.nan]],
            [[1, 0, 0], [1, 0, 0], [0, 0, 0]],
            [[1, 3, 3], [1, 3, 3], [2, 5, 5]],
        )
    )
    np.testing.assert_allclose(found.recall_L, [1 / 2, np.nan, np.nan])
    np.testing.assert_allclose(found.specificity_L, [0, 3 / 11, 1 / 2])
    np.testing.assert_allclose(found.active_L, [2, 0, 0])
    assert found.auc_L[0] == pytest.approx(0.5)


def test_a_relation_that_is_all_density_disappears_when_density_is_held_fixed() -> None:
    rng = np.random.default_rng(1)
    frequency = rng.uniform(-4, -1, 800)
    score = np.clip(0.9 + 0.1 * frequency + rng.normal(0, 0.05, 800), 0, 1)
    recall = np.clip(1.0 + 0.2 * frequency + rng.normal(0, 0.05, 800), 0, 1)
    quality = LatentQuality(np.arange(800), np.ones(800), recall, np.full(800, np.nan), np.full(800, np.nan))
    rows = Metrics(predictive_rows(quality, {"detection": score}, 10.0**frequency, 10))
    plain = rows.row("rank_correlation", task="predict", quality="recall")
    assert plain is not None
    assert plain["low"] > 0.5
    held = rows.row("rank_correlation", task="predict", quality="recall", given="density")
    assert held is not None
    assert abs(held["value"]) < 0.15
    assert rows.row("rank_correlation", quality="specificity") is None  # undefined everywhere: no row


def test_adjusting_takes_out_the_slope_within_bins_and_nothing_between_them() -> None:
    rng = np.random.default_rng(2)
    number = np.repeat([0, 1, 2], 50)
    covariate = rng.normal(0, 1, (150, 1)) + number[:, None]
    value = number * 10.0 + 3 * covariate[:, 0]
    adjusted = adjust(value, number, covariate)
    np.testing.assert_allclose(adjusted, number * 10.0 + 3 * covariate.mean(), atol=1e-9)
