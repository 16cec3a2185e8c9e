"""Proper scores and reliability against scikit-learn and by their properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from nlsim.metrics.probability import brier, calibration_error, log_loss, reliability

GENERATOR = np.random.default_rng(3)


def test_scores_equal_scikit_learn() -> None:
    probability = GENERATOR.uniform(0.001, 0.999, 500)
    truth = GENERATOR.uniform(size=500) < probability
    weight = GENERATOR.uniform(size=500)
    assert brier(truth, probability, weight) == pytest.approx(
        sk.brier_score_loss(truth, probability, sample_weight=weight)
    )
    assert log_loss(truth, probability, weight) == pytest.approx(sk.log_loss(truth, probability, sample_weight=weight))


@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98))
def test_scores_are_proper(rate: float, stated: float) -> None:
    truth, weight = np.array([True, False]), np.array([rate, 1 - rate])
    for score in (brier, log_loss):
        assert score(truth, [rate, rate], weight) <= score(truth, [stated, stated], weight) + 1e-12


def test_failures_are_left_out_and_certainty_costs_a_finite_amount() -> None:
    assert brier([True, False], [1.0, np.nan]) == 0
    assert log_loss([True], [0.0]) == pytest.approx(-np.log(1e-6))


def test_a_calibrated_forecast_is_on_the_diagonal() -> None:
    probability = GENERATOR.beta(0.5, 3, 40_000)
    truth = GENERATOR.uniform(size=probability.size) < probability
    diagram = reliability(truth, probability, bins=8)
    assert diagram.count_B.size == 8
    assert ((diagram.low_B <= diagram.predicted_B) & (diagram.predicted_B <= diagram.high_B)).sum() >= 6
    assert calibration_error(diagram) < 0.01
    assert calibration_error(reliability(truth, probability**0.3)) > 0.2


@given(
    hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-5, 5, width=16)),
    st.sampled_from(["quantile", "uniform"]),
)
def test_bins_hold_every_member_and_keep_the_means(predicted: np.ndarray, spacing: str) -> None:
    observed = predicted**2
    diagram = reliability(observed, predicted, 5, spacing)
    assert diagram.count_B.sum() == predicted.size
    np.testing.assert_allclose(diagram.share_B @ diagram.predicted_B, predicted.mean(), atol=1e-9)
    np.testing.assert_allclose(diagram.share_B @ diagram.observed_B, observed.mean(), atol=1e-9)
    assert (np.diff(diagram.predicted_B) > 0).all()


def test_weights_act_as_copies() -> None:
    probability = np.array([0.1, 0.2, 0.7, 0.9])
    truth = np.array([False, True, True, True])
    copies = np.array([1, 2, 3, 1])
    once = reliability(truth, probability, 2, "uniform", copies)
    many = reliability(np.repeat(truth, copies), np.repeat(probability, copies), 2, "uniform")
    np.testing.assert_allclose(once.observed_B, many.observed_B)
    np.testing.assert_allclose(once.predicted_B, many.predicted_B)


def test_bad_spacing_and_empty_input() -> None:
    with pytest.raises(ValueError, match="spacing"):
        reliability([True], [0.1], spacing="log")
    assert np.isnan(calibration_error(reliability(np.zeros(0), np.zeros(0))))
