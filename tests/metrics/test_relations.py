"""Correlation, alignment and distribution metrics against scipy and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import log_softmax, rel_entr

from nlsim.metrics.alignment import cosine_similarity, hungarian
from nlsim.metrics.correlation import midranks, pearson, spearman
from nlsim.metrics.distribution import (
    choice_distribution,
    choice_mass,
    empirical_cdf,
    expected_digit,
    fvu,
    kl_divergence,
    quantile_map,
)

FINITE = st.floats(-100, 100, width=16)
GENERATOR = np.random.default_rng(11)


def test_correlations_equal_scipy() -> None:
    x = GENERATOR.normal(size=80)
    y = np.round(x + GENERATOR.normal(size=80), 1)
    ours, theirs = pearson(x, y), stats.pearsonr(x, y)
    interval = theirs.confidence_interval()
    np.testing.assert_allclose(ours[:3], (theirs.statistic, interval.low, interval.high))
    ranked = spearman(x, y)
    assert ranked.value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert ranked.low < ranked.value < ranked.high
    copies = GENERATOR.integers(1, 4, 80)
    assert pearson(x, y, copies).value == pytest.approx(pearson(np.repeat(x, copies), np.repeat(y, copies)).value)


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=FINITE))
def test_midranks_equal_scipy(value: np.ndarray) -> None:
    np.testing.assert_allclose(midranks(value), stats.rankdata(value))


def test_correlation_of_a_constant_is_undefined_and_failures_are_left_out() -> None:
    assert np.isnan(pearson([1, 1, 1], [1, 2, 3]).value)
    assert pearson([1, 2, 3, np.nan], [2, 4, 6, 0]).n == 3
    with pytest.raises(ValueError, match="paired"):
        pearson([1], [1, 2])


def test_hungarian_finds_a_planted_permutation_whatever_the_norms() -> None:
    directions = GENERATOR.normal(size=(12, 40))
    order = GENERATOR.permutation(12)
    shuffled = (directions * GENERATOR.uniform(0.1, 50, (12, 1)))[order]
    aligned = hungarian(cosine_similarity(directions, shuffled))
    assert order[aligned.column_K].tolist() == aligned.row_K.tolist()
    assert aligned.mean == pytest.approx(1)
    assert hungarian(cosine_similarity(directions[:3], shuffled)).similarity_K.size == 3
    assert np.isnan(hungarian(np.zeros((0, 3))).mean)
    assert not cosine_similarity(np.zeros((1, 4)), np.ones((1, 4))).any()


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=FINITE))
def test_hungarian_is_no_worse_than_the_diagonal(similarity: np.ndarray) -> None:
    assert hungarian(similarity).similarity_K.sum() >= np.diag(similarity).sum() - 1e-9


def test_expected_digit_is_renormalised_reports_mass_and_fails_as_nan() -> None:
    """Mistakes 3 and 12: E was not divided by the mass of the digits, and a failure read as −1."""
    logprobs = np.log(np.array([[0.1] * 5 + [0.0] * 4 + [0.1]]) + 1e-300)
    assert choice_mass(logprobs) == pytest.approx([0.6])
    assert expected_digit(logprobs) == pytest.approx([(0 + 1 + 2 + 3 + 4 + 9) / 6])
    assert np.isnan(expected_digit([[-np.inf] * 10, [np.nan] * 10])).all()
    assert expected_digit([[-np.inf] * 9 + [-800.0]]) == pytest.approx([9])


@given(hnp.arrays(np.float64, (3, 10), elements=st.floats(-30, 0)))
def test_choice_distribution_is_softmax(logprobs: np.ndarray) -> None:
    np.testing.assert_allclose(choice_distribution(logprobs), np.exp(log_softmax(logprobs, -1)), atol=1e-12)
    assert ((expected_digit(logprobs) >= 0) & (expected_digit(logprobs) <= 9)).all()


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=FINITE), hnp.arrays(np.float64, 7, elements=FINITE))
def test_empirical_cdf_is_the_mean_percentile_rank(reference: np.ndarray, at: np.ndarray) -> None:
    expected = [stats.percentileofscore(reference, x, "mean") / 100 for x in at]
    np.testing.assert_allclose(empirical_cdf(at, reference), expected)


def test_quantile_map_gives_the_target_distribution_zeros_included() -> None:
    source = GENERATOR.normal(size=1000)
    target = np.where(GENERATOR.uniform(size=1000) < 0.05, GENERATOR.exponential(size=1000), 0.0)
    mapped = quantile_map(source, source, target)
    np.testing.assert_allclose(np.sort(mapped), np.sort(target), atol=1e-9)
    assert (np.diff(mapped[np.argsort(source)]) >= 0).all()
    np.testing.assert_allclose(quantile_map(source, source, source), source, atol=1e-9)


def test_fvu_is_one_minus_r2() -> None:
    from sklearn.metrics import r2_score

    truth = GENERATOR.normal(size=(60, 5))
    predicted = truth + 0.4 * GENERATOR.normal(size=(60, 5))
    weight = GENERATOR.uniform(size=60)
    expected = 1 - r2_score(truth, predicted, sample_weight=weight, multioutput="variance_weighted")
    assert fvu(truth, predicted, weight) == pytest.approx(expected)
    assert fvu(truth[:, 0], predicted[:, 0]) == pytest.approx(1 - r2_score(truth[:, 0], predicted[:, 0]))
    assert fvu(truth, np.broadcast_to(truth.mean(0), truth.shape)) == pytest.approx(1)
    assert np.isnan(fvu(np.ones(4), np.zeros(4)))
    with pytest.raises(ValueError, match="shape"):
        fvu(truth, predicted[:3])


def test_kl_is_of_the_first_from_the_second() -> None:
    """Mistake 28: the direction was inconsistent. KL(clean ‖ patched) = sum p_clean (log p_clean − log p_patched)."""
    clean, patched = (log_softmax(GENERATOR.normal(size=(4, 30)) * 3, -1) for _ in range(2))
    expected = rel_entr(np.exp(clean), np.exp(patched)).sum(-1)
    np.testing.assert_allclose(kl_divergence(clean, patched), expected)
    assert not np.allclose(kl_divergence(patched, clean), expected)
    assert kl_divergence([0.0, -np.inf], [-np.inf, 0.0]) == np.inf
    np.testing.assert_allclose(kl_divergence(clean, clean), 0, atol=1e-12)
