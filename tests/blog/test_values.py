"""Places of activations on both grids, and digits compared with them."""

import numpy as np
import pytest
from blog.pairs_of import pairs_of
from scipy.stats import pearsonr

from nlsim.blog.values import Places, grid_places, heat_counts, value_rows
from nlsim.metrics.intervals import Bootstrap
from nlsim.report.gather import Metrics


def test_places_by_value_and_by_rank_differ_where_the_distribution_is_skewed() -> None:
    """Mistake 34: with few activations the grid neither fails nor grows."""
    known = np.array([1.0, 1.1, 1.2, 1.3, 11.0])
    value, quantile = grid_places(known, known, 50)
    np.testing.assert_allclose(value, np.round((known - 1) / 10 * 49) * 9 / 49)
    np.testing.assert_allclose(quantile, np.round(np.linspace(0, 1, 5) * 49) * 9 / 49)
    outside, _ = grid_places([0.0, 99.0], known, 50)
    np.testing.assert_allclose(outside, [0, 9])


def test_ties_share_the_middle_of_their_ranks() -> None:
    _, quantile = grid_places([2.0], np.array([1.0, 2.0, 2.0, 2.0, 3.0]), 1001)
    assert quantile[0] == pytest.approx(4.5)


def test_correlations_accuracy_and_chance() -> None:
    rng = np.random.default_rng(0)
    place = rng.integers(0, 10, 600).astype(np.float64)
    said = np.clip(place + rng.normal(0, 2, 600), 0, 9)
    found = Places(said, place, rng.permutation(place), np.arange(600))
    rows = Metrics(value_rows(found, Bootstrap(np.arange(600) // 10)))
    linear = rows.row("correlation", target="value")
    assert linear is not None
    assert linear["value"] == pytest.approx(pearsonr(said, place).statistic)
    assert linear["low"] < linear["value"] < linear["high"]
    none = rows.row("correlation", target="quantile")
    assert none is not None
    assert none["low"] < 0 < none["high"]
    hit = rows.row("accuracy", target="value")
    chance = rows.row("accuracy", target="value", by="chance")
    assert hit is not None
    assert chance is not None
    assert hit["value"] == pytest.approx(np.mean(np.round(said) == place))
    assert chance["value"] == pytest.approx(0.1, abs=0.03)
    heat = heat_counts(found)
    assert heat["value"].sum() == 600
    assert heat["value"][3, 3] == np.sum((np.round(said) == 3) & (place == 3))


def test_nothing_to_compare_gives_no_numbers() -> None:
    nothing = Places(*(np.zeros(0) for _ in range(3)), np.zeros(0, np.int64))
    rows = value_rows(nothing, Bootstrap(np.zeros(0)))
    assert all(row["value"] is None for row in rows if row["name"] == "correlation")
    assert pairs_of([[0.5]], [[0.0]]).active_P.tolist() == [False]
