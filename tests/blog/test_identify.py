"""Identification, counted by hand; tails that are planted; the pools."""

import numpy as np
import pytest
from blog.pairs_of import pairs_of

from nlsim.blog.directions import alignment
from nlsim.blog.identify import (
    identification,
    judge,
    pool_weights,
    recall_by_rank,
    tail_rows,
    threshold_sweep,
)
from nlsim.metrics.intervals import Bootstrap
from nlsim.report.gather import Metrics

NAN = float("nan")
PROBABILITY = [[0.9, 0.4, 0.7, 0.1, 0.2, 0.6], [0.8, 0.9, 0.1, 0.2, 0.3, 0.4]]
ACTIVATION = [[2.0, 1.0, 0, 0, 0, 0], [3.0, 0, 0, 0, 0, 0]]


def both(documents: int = 2) -> Bootstrap:
    return Bootstrap(np.arange(documents), draws=200)


def test_rates_of_each_token_by_hand() -> None:
    """Mistake 32: true positives and true negatives keep their places."""
    pairs = pairs_of(PROBABILITY, ACTIVATION)
    judged = judge(pairs, pool_weights(pairs, None), top=2)
    np.testing.assert_allclose(judged.recall_R, [1 / 2, 1])
    np.testing.assert_allclose(judged.specificity_R, [2 / 4, 4 / 5])
    np.testing.assert_allclose(judged.precision_R, [1 / 3, 1 / 2])
    np.testing.assert_allclose(judged.f1_R, [2 / 5, 2 / 3])
    np.testing.assert_allclose(judged.auc_R, [(4 + 2) / 8, 4 / 5])
    np.testing.assert_allclose(judged.precision_at_R, [1 / 2, 1 / 2])
    np.testing.assert_allclose(judged.selected_R, [3, 2])


def test_a_failed_answer_is_neither_right_nor_wrong() -> None:
    """Mistake 33: a failed answer on an inactive latent is no false positive."""
    failed = [[0.9, 0.4, NAN, 0.1, 0.2, 0.6], PROBABILITY[1]]
    pairs = pairs_of(failed, ACTIVATION)
    judged = judge(pairs, pool_weights(pairs, None), top=2)
    np.testing.assert_allclose(judged.specificity_R, [2 / 3, 4 / 5])
    rows = Metrics(identification(pairs, both(), np.array([2, 1]), 1000, 2))
    assert rows.row("failed", task="identify")["value"] == pytest.approx(1 / 12)  # type: ignore[index]


def test_the_published_pool_flatters_precision_and_leaves_the_rest() -> None:
    """Mistake 33: F1 and precision depend on the mixture; at true prevalence they are those of use."""
    weight = [[1, 1, 50, 50, 50, 50], [1, 40, 40, 40, 40, 40]]
    pairs = pairs_of(PROBABILITY, ACTIVATION, weight)
    rows = Metrics(identification(pairs, both(), np.array([4, 1]), pool=4, top=2))

    def value(name: str, **condition: object) -> float:
        row = rows.row(name, task="identify", **condition)
        assert row is not None
        return float(row["value"])

    assert value("precision", pool="all") == pytest.approx(np.mean([1 / 101, 1 / 41]))
    assert value("precision", pool="published") == pytest.approx(np.mean([1 / 3, 1 / (1 + 4 / 5)]))
    assert value("recall") == pytest.approx(0.75)
    assert value("specificity") == pytest.approx(np.mean([1 / 2, 4 / 5]))
    assert value("explained_active") == pytest.approx(3 / 5)
    assert value("selected_per_token", pool="all") == pytest.approx(np.mean([101, 41]))


def test_recall_by_rank_puts_the_strongest_first() -> None:
    pairs = pairs_of([[0.9, 0.8, 0.1, 0.2, 0.9]], [[5.0, 4.0, 3.0, 2.0, 0.0]])
    rows = recall_by_rank(pairs, both(1), bins=2)
    assert [row["value"] for row in rows] == [1.0, 0.0]
    assert [row["condition"]["rank"] for row in rows] == [0.25, 0.75]


def test_sweep_counts_every_pair_once_and_says_what_it_can_resolve() -> None:
    """Mistake 33: no resampling of a thousand pairs into 130,000; a threshold that selects nothing drops no read."""
    pairs = pairs_of(PROBABILITY, ACTIVATION, [[1, 1, 10, 10, 10, 10], [1, 8, 8, 8, 8, 8]])
    rows = Metrics(threshold_sweep(pairs, both(), [0.5, 0.85, 0.95]))

    def at(name: str, threshold: float) -> float | None:
        row = rows.row(name, task="identify", threshold=threshold)
        assert row is not None
        value: float | None = row["value"]
        return value

    assert at("recall", 0.5) == pytest.approx(2 / 3)
    assert at("false_positive_rate", 0.5) == pytest.approx((20 + 8) / 80)
    assert at("recall", 0.85) == pytest.approx(1 / 3)
    assert at("false_positive_rate", 0.95) == 0
    assert at("recall", 0.95) == 0
    assert at("precision", 0.95) is None
    assert at("selected_per_token", 0.85) == pytest.approx((1 + 8) / 2)
    assert rows.row("resolution", task="identify")["value"] == pytest.approx(8 / 80)  # type: ignore[index]


def test_a_planted_exponential_tail_is_found_beyond_the_data() -> None:
    rng = np.random.default_rng(0)
    odds = rng.exponential(0.8, (400, 250)) - 4
    probability = 1 / (1 + np.exp(-odds))
    pairs = pairs_of(probability, np.zeros_like(probability))  # type: ignore[arg-type]
    rows = tail_rows(pairs, Bootstrap(np.arange(400), draws=400), [0.5, 0.999, 0.999999], 0.02)
    for row, threshold in zip(rows, (0.5, 0.999), strict=True):
        truth = np.exp(-(np.log(threshold / (1 - threshold)) + 4) / 0.8)
        assert row["low"] < truth < row["high"], row
        assert row["low"] < row["value"] < row["high"]
    assert len(rows) == 2, "no rate is told that is far below what the pairs resolve"
    assert rows[1]["value"] < 1e-5 < 1 / 400  # finer than any of the 100,000 pairs could show alone


def test_alignment_of_the_right_latents_is_perfect_and_of_random_ones_is_not() -> None:
    decoder_MD = np.eye(40, dtype=np.float32) * np.linspace(1, 5, 40, dtype=np.float32)[:, None]
    activation = np.zeros((3, 40))
    activation[:, :4] = 1
    right = pairs_of(np.where(activation > 0, 0.9, 0.1), activation)  # type: ignore[arg-type]
    wrong = pairs_of(np.where(activation > 0, 0.1, 0.9), activation)  # type: ignore[arg-type]
    values = {
        name: {row["condition"]["latents"]: row["value"] for row in alignment(pairs, decoder_MD, both(3), 10, seed=0)}
        for name, pairs in (("right", right), ("wrong", wrong))
    }
    assert values["right"]["likeliest"] == pytest.approx(1)  # lengths do not matter
    assert values["wrong"]["likeliest"] == pytest.approx(0)
    assert values["right"]["random"] == values["wrong"]["random"] < 0.6
