"""Alignment and distribution metrics against scipy and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import log_softmax

from nlsim.metrics.alignment import cosine_similarity, hungarian
from nlsim.metrics.distribution import (
    choice_distribution,
    choice_mass,
    empirical_cdf,
)

FINITE = st.floats(-100, 100, width=16)
GENERATOR = np.random.default_rng(11)


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


@given(hnp.arrays(np.float64, (3, 10), elements=st.floats(-30, 0)))
def test_choice_distribution_is_softmax(logprobs: np.ndarray) -> None:
    np.testing.assert_allclose(choice_distribution(logprobs), np.exp(log_softmax(logprobs, -1)), atol=1e-12)
    np.testing.assert_allclose(choice_mass(logprobs), np.exp(logprobs).sum(-1))


def test_a_distribution_without_mass_or_with_a_failure_is_undefined() -> None:
    assert np.isnan(choice_distribution([[-np.inf] * 10, [np.nan] * 10])).all()
    assert choice_distribution([[-np.inf] * 9 + [-800.0]])[0, 9] == 1


@given(hnp.arrays(np.float64, st.integers(1, 40), elements=FINITE), hnp.arrays(np.float64, 7, elements=FINITE))
def test_empirical_cdf_is_the_mean_percentile_rank(reference: np.ndarray, at: np.ndarray) -> None:
    expected = [stats.percentileofscore(reference, x, "mean") / 100 for x in at]
    np.testing.assert_allclose(empirical_cdf(at, reference), expected)
