"""Intervals against scipy and by their coverage on simulated data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nlsim.metrics.classification import auc
from nlsim.metrics.intervals import Bootstrap, delong, mean_of_rates, wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(count: tuple[int, int]) -> None:
    successes, n = count
    ours = wilson(successes, n)
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    np.testing.assert_allclose((ours.low, ours.high), (theirs.low, theirs.high), atol=1e-12)
    assert ours.low <= ours.value <= ours.high


def test_correlation_equals_scipy_and_covers() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        x = generator.normal(0, 1, 120)
        y = 0.6 * x + 0.8 * generator.normal(0, 1, 120) + 1e4
        found = Bootstrap(np.arange(120), draws=300).correlation(x, y)
        assert found.value == pytest.approx(stats.pearsonr(x, y).statistic)
        covered += found.low < 0.6 < found.high
    assert covered >= 50
    holes = np.where(np.arange(120) < 3, np.nan, y)
    assert Bootstrap(np.arange(120)).correlation(x, holes).value == pytest.approx(
        stats.pearsonr(x[3:], y[3:]).statistic
    )
    assert np.isnan(Bootstrap(np.arange(120)).correlation(x, np.ones(120)).value)
    assert Bootstrap(np.zeros(0)).correlation([], []).n == 0


def test_clusters_widen_the_interval_of_a_correlation() -> None:
    generator = np.random.default_rng(6)
    x, y = (np.repeat(generator.normal(0, 1, 40), 20) for _ in range(2))
    alone, together = (Bootstrap(c, draws=400).correlation(x, y) for c in (np.arange(800), np.arange(800) // 20))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_wilson_of_nothing_knows_nothing() -> None:
    nothing = wilson(0, 0)
    assert np.isnan(nothing.value)
    assert (nothing.low, nothing.high, nothing.n) == (0, 1, 0)


def test_mean_of_rates_stays_inside_and_is_wider_with_less_data() -> None:
    many, few = (mean_of_rates(wilson(n, n), wilson(n // 2, n)) for n in (400, 8))
    assert many.value == few.value == 0.75
    assert 0 <= few.low < many.low < many.high < few.high <= 1


def test_delong_agrees_with_the_pairwise_definition_and_covers() -> None:
    generator = np.random.default_rng(0)
    true_auc = stats.norm.cdf(1 / np.sqrt(2))
    covered = 0
    for _ in range(300):
        truth = np.arange(60) < 20
        score = np.round(generator.normal(truth * 1.0, 1), 2)
        estimate = delong(truth, score)
        assert estimate.value == pytest.approx(auc(truth, score))
        covered += estimate.low <= true_auc <= estimate.high
    assert 0.91 <= covered / 300 <= 0.985


def test_delong_at_the_edge_and_with_an_empty_class() -> None:
    perfect = delong([True] * 10 + [False] * 10, np.r_[np.ones(10), np.zeros(10)])
    assert perfect.value == perfect.high == 1
    assert 0.5 < perfect.low < 1
    assert np.isnan(delong([True, True], [0.1, 0.2]).value)


def test_bootstrap_of_independent_members_agrees_with_the_t_interval() -> None:
    value = np.random.default_rng(1).normal(3, 2, 40)
    ours = Bootstrap(np.arange(40), draws=8000).mean(value)
    low, high = stats.t.interval(0.95, 39, value.mean(), value.std(ddof=1) / np.sqrt(40))
    assert ours.value == pytest.approx(value.mean())
    assert (ours.low, ours.high) == (pytest.approx(low, abs=0.1), pytest.approx(high, abs=0.1))


def test_documents_are_the_unit_not_tokens() -> None:
    """With strong document effects a token-level interval misses the truth; the document-level one covers it."""
    generator = np.random.default_rng(2)
    covered, naive = 0, 0
    for trial in range(200):
        document = np.repeat(np.arange(15), 20)
        value = generator.normal(0, 1, 15)[document] + generator.normal(0, 1, document.size)
        estimate = Bootstrap(document, draws=400, seed=trial).mean(value)
        covered += estimate.low <= 0 <= estimate.high
        token = Bootstrap(np.arange(value.size), draws=100, seed=trial).mean(value)
        naive += token.low <= 0 <= token.high
    assert 0.91 <= covered / 200 <= 0.985
    assert naive / 200 < 0.6


def test_paired_differences_are_tighter_than_unpaired() -> None:
    generator = np.random.default_rng(3)
    document = np.repeat(np.arange(20), 10)
    common = generator.normal(0, 5, document.size)
    first, second = common + 0.3, common + generator.normal(0, 0.1, document.size)
    bootstrap = Bootstrap(document)
    difference = bootstrap.difference(first, second)
    assert difference.low > 0
    spread = bootstrap.mean(first)
    assert difference.high - difference.low < (spread.high - spread.low) / 10
    assert Bootstrap(document).difference(first, second) == difference


def test_ratio_of_sums_and_its_undefined_interval() -> None:
    generator = np.random.default_rng(4)
    document = np.repeat(np.arange(30), 5)
    bottom = generator.uniform(1, 2, document.size)
    ratio = Bootstrap(document).ratio(0.4 * bottom, bottom)
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(0.4), pytest.approx(0.4), pytest.approx(0.4))
    around_zero = generator.normal(0.0, 1, document.size)
    assert np.isnan(Bootstrap(document).ratio(bottom, around_zero).low)
    negative = Bootstrap(document).ratio(-bottom, -bottom)
    assert negative.low == pytest.approx(1)


def test_failures_are_left_out_in_pairs() -> None:
    difference = Bootstrap([0, 1, 2, 3]).difference([1.0, np.nan, 2.0, 4.0], [0.0, 5.0, np.nan, 1.0])
    assert (difference.value, difference.n) == (2.0, 2)


def test_one_document_gives_no_interval() -> None:
    alone = Bootstrap([7, 7, 7]).mean([1.0, 2.0, 3.0])
    assert alone.value == 2
    assert np.isnan(alone.low)
    assert np.isnan(Bootstrap([]).mean([]).value)


def test_bootstrap_auc_equals_reweighted_auc_in_every_draw() -> None:
    generator = np.random.default_rng(5)
    document = generator.integers(0, 12, 300)
    truth = generator.uniform(size=300) < 0.3
    score = np.round(generator.normal(truth * 1.0, 1), 1)
    weight = generator.uniform(0.5, 2, 300)
    bootstrap = Bootstrap(document, draws=50)
    ours = bootstrap.auc(truth, score, weight)
    slow = [auc(truth, score, weight * counts[bootstrap.index_N]) for counts in bootstrap.counts_RC]
    assert ours.value == pytest.approx(auc(truth, score, weight))
    assert ours == bootstrap.estimate(ours.value, np.array(slow), 300) or np.allclose(
        ours, bootstrap.estimate(ours.value, np.array(slow), 300)
    )


def test_mismatched_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="members"):
        Bootstrap([0, 1]).mean([1.0, 2.0, 3.0])
