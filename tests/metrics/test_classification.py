"""Classification metrics against scikit-learn and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from nlsim.metrics.classification import auc, confusion, precision_at, tail_counts

LABELLED = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(bool, n),
        hnp.arrays(np.float64, n, elements=st.sampled_from(np.linspace(0, 1, 9))),
        hnp.arrays(np.float64, n, elements=st.sampled_from([0.5, 1.0, 2.0, 7.0])),
    )
)


@given(LABELLED)
def test_confusion_rates_equal_scikit_learn(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, probability, weight = sample
    counts = confusion(truth, probability, weight)
    decided = probability >= 0.5
    options = {"sample_weight": weight, "zero_division": np.nan}
    np.testing.assert_allclose(counts.precision, sk.precision_score(truth, decided, **options))
    np.testing.assert_allclose(counts.recall, sk.recall_score(truth, decided, **options))
    np.testing.assert_allclose(counts.f1, sk.f1_score(truth, decided, **options))
    np.testing.assert_allclose(counts.accuracy, sk.accuracy_score(truth, decided, sample_weight=weight))
    if truth.any() and not truth.all():
        expected = sk.balanced_accuracy_score(truth, decided, sample_weight=weight)
        np.testing.assert_allclose(counts.balanced_accuracy, expected)


@given(LABELLED)
def test_auc_equals_scikit_learn(sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, score, weight = sample
    if truth.all() or not truth.any():
        assert np.isnan(auc(truth, score, weight))
    else:
        np.testing.assert_allclose(auc(truth, score, weight), sk.roc_auc_score(truth, score, sample_weight=weight))


@given(LABELLED)
def test_auc_is_invariant_to_monotone_maps_and_flips_with_the_sign(sample: tuple[np.ndarray, ...]) -> None:
    truth, score, weight = sample
    if truth.any() and not truth.all():
        np.testing.assert_allclose(auc(truth, np.exp(3 * score), weight), auc(truth, score, weight))
        np.testing.assert_allclose(auc(truth, -score, weight), 1 - auc(truth, score, weight), atol=1e-12)


def test_a_failed_answer_is_neither_right_nor_wrong() -> None:
    """Mistakes 2, 3 and 33: a parse failure (there −1) counted as a false positive on inactive latents and entered
    averages."""
    truth = np.array([True, True, False, False])
    counts = confusion(truth, [1.0, np.nan, np.nan, 0.0])
    assert (counts.tp, counts.fp, counts.tn, counts.fn, counts.failed) == (1, 0, 1, 0, 2)
    assert counts.balanced_accuracy == 1
    assert auc(truth, [0.9, np.nan, np.nan, 0.1]) == 1
    assert precision_at(truth, [0.9, np.nan, np.nan, 0.1], 1) == 1


def test_precision_of_a_subsample_is_weighted_back_to_the_true_prevalence() -> None:
    """Mistake 33: F1 and precision depended on the 50 : 1000 mix of active and sampled inactive latents."""
    generator = np.random.default_rng(0)
    truth = np.arange(200_000) < 100
    probability = np.clip(generator.normal(np.where(truth, 0.6, 0.2), 0.15), 0, 1)
    whole = confusion(truth, probability)
    pool = np.r_[np.arange(100), generator.choice(np.arange(100, 200_000), 20_000, replace=False)]
    pooled = confusion(truth[pool], probability[pool])
    weight = np.where(truth[pool], 1.0, 199_900 / 20_000)
    weighted = confusion(truth[pool], probability[pool], weight)
    assert pooled.precision > 4 * whole.precision
    assert weighted.precision == pytest.approx(whole.precision, rel=0.1)
    assert weighted.prevalence == pytest.approx(100 / 200_000)
    assert weighted.recall == pytest.approx(whole.recall)
    k = 200
    exact = precision_at(truth, probability, k)
    assert precision_at(truth[pool], probability[pool], k, weight) == pytest.approx(exact, abs=0.05)


@given(LABELLED, st.integers(1, 60))
def test_precision_at_k_is_the_mean_over_random_orders_of_ties(sample: tuple[np.ndarray, ...], k: int) -> None:
    truth, score, _ = sample
    k = min(k, truth.size)
    threshold = np.sort(score)[::-1][k - 1]
    above, tied = score > threshold, score == threshold
    expected = (truth[above].sum() + (k - above.sum()) * truth[tied].mean()) / k
    np.testing.assert_allclose(precision_at(truth, score, k), expected)


def test_tail_counts_of_nothing() -> None:
    assert tail_counts([], []).score_U.size == 0
    assert np.isnan(auc([], []))
    assert np.isnan(precision_at([], [], 3))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        confusion([True], [0.1, 0.2])
    with pytest.raises(ValueError, match="weights"):
        auc([True, False], [0.1, 0.2], [1, -1])
