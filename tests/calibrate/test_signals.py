"""Readings of predictions, and the linear map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nlsim.calibrate.linear import linear_values
from nlsim.calibrate.signals import logit, read_signals


def test_digits_are_read_among_the_digits_and_as_odds_of_any_activity() -> None:
    """Mistake 12: E was not renormalised, so missing mass read as zero."""
    share = np.array([0.5, 0, 0, 0, 0.25, 0, 0, 0, 0, 0.25])
    signals = read_signals(np.log(0.5 * share + 1e-30).reshape(1, 1, 10), least_mass=0.05)
    assert signals.expected_LR[0, 0] == pytest.approx(0.25 * 4 + 0.25 * 9)
    assert signals.odds_LR[0, 0] == pytest.approx(0, abs=1e-6)


def test_failed_predictions_are_nan_and_stay_nan() -> None:
    """Mistake 3: a failed prediction became the latent's maximum. Here it is NaN, in every map."""
    logprobs = np.full((1, 3, 10), -np.inf)
    logprobs[0, 1] = np.nan
    logprobs[0, 2] = np.log(0.001)  # 1 % of the mass
    signals = read_signals(logprobs, least_mass=0.05)
    assert np.isnan(signals.expected_LR).all()
    assert np.isnan(signals.odds_LR).all()
    assert np.isnan(linear_values(signals.expected_LR, np.array([3.0]))).all()


def test_binary_predictions_use_the_same_scale() -> None:
    signals = read_signals(np.log(np.array([[[0.8, 0.2]]])), least_mass=0.05)
    assert signals.expected_LR[0, 0] == pytest.approx(1.8)
    assert signals.odds_LR[0, 0] == pytest.approx(np.log(0.25))
    with pytest.raises(ValueError, match="neither"):
        read_signals(np.zeros((1, 1, 3)), 0.05)


@given(hnp.arrays(np.float16, (2, 3, 10), elements=st.floats(-20, 0, width=16)))
def test_readings_are_finite_and_in_range(logprobs: np.ndarray) -> None:
    signals = read_signals(logprobs, least_mass=0.0)
    assert ((signals.expected_LR >= 0) & (signals.expected_LR <= 9)).all()
    assert np.isfinite(signals.odds_LR).all()


def test_linear_map_is_the_published_one_without_its_edge_cases() -> None:
    """Mistakes 3 and 7: E ≥ 9 gave 0; the maximum was taken at massive-norm positions (here it is a robust one)."""
    expected = np.array([[0, 4.5, 9.0, 9.5, np.nan]])
    np.testing.assert_allclose(linear_values(expected, np.array([6.0])), [[0, 3, 6, 6, np.nan]])


def test_logit_is_bounded() -> None:
    assert np.isfinite(logit([0, 0.5, 1])).all()
    assert logit(0.5) == 0
