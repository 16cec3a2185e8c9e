"""The posterior mean: right on average, harmless without signal, better with it."""

from functools import cache

import numpy as np
import pytest
from calibrate.planted import Planted, planted, unexplained_variance
from scipy.special import expit

from nlsim.calibrate.linear import linear_values
from nlsim.calibrate.posterior import Posterior, fit_posterior
from nlsim.calibrate.signals import Latents, read_signals
from nlsim.calibrate.slopes import GRID_G, fit_slopes, intercepts, score_groups
from nlsim.metrics.probability import calibration_error, log_loss, reliability


@cache
def case() -> tuple[Planted, Posterior]:
    data = planted()
    return data, fit_posterior(data.signals, data.truth, data.latents)


def test_it_explains_more_than_the_mean_and_than_the_linear_map() -> None:
    data, fitted = case()
    ours = unexplained_variance(fitted.values(data.fresh), data)
    assert ours < 0.75
    assert ours < unexplained_variance(linear_values(data.fresh.expected_LR, data.latents.robust_max_L), data) - 0.1


def test_every_latent_is_right_on_average() -> None:
    data, fitted = case()
    values = fitted.values(data.signals)
    np.testing.assert_allclose(values.mean(1), data.latents.mean_L, rtol=0.05)
    np.testing.assert_allclose(fitted.probability(data.signals).mean(1), data.latents.density_L, rtol=0.01)
    assert (values >= 0).all()


def test_predictions_that_say_nothing_give_the_mean() -> None:
    """Shuffled or empty explanations must fall back to mean ablation, not below it."""
    data, fitted = case()
    silent = data.quality == 0
    assert unexplained_variance(fitted.values(data.fresh), data, silent) < 1.02
    assert np.median(fitted.slope_L[silent]) < 0.3 < 0.8 < np.median(fitted.slope_L[data.quality > 3])
    order = np.random.default_rng(0).permutation(len(data.quality))
    wrong = data._replace(logprobs=data.logprobs[order], fresh_logprobs=data.fresh_logprobs[order])
    shuffled = fit_posterior(wrong.signals, wrong.truth, wrong.latents)
    assert unexplained_variance(shuffled.values(wrong.fresh), wrong) == pytest.approx(1, abs=0.03)


def test_constant_predictions_give_exactly_the_mean() -> None:
    data, _ = case()
    constant = np.broadcast_to(data.logprobs[:, :1], data.logprobs.shape)
    fitted = fit_posterior(read_signals(constant, 0), data.truth, data.latents)
    np.testing.assert_allclose(
        fitted.values(read_signals(constant, 0)),
        np.broadcast_to(data.latents.mean_L[:, None], data.truth.shape),
        rtol=1e-3,
    )


def test_probabilities_are_calibrated_on_fresh_reads() -> None:
    data, fitted = case()
    active = data.fresh_truth > 0
    probability = fitted.probability(data.fresh)
    assert calibration_error(reliability(active, probability)) < 0.004
    raw = expit(data.fresh.odds_LR)
    base = np.broadcast_to(data.latents.density_L[:, None], active.shape)
    assert log_loss(active, probability) < 0.9 * log_loss(active, base) < log_loss(active, raw)


def test_values_are_monotone_in_the_signal() -> None:
    data, fitted = case()
    weaker = data.fresh
    strength = weaker.expected_LR / expit(weaker.odds_LR)  # kept, while activity becomes likelier
    stronger = weaker._replace(odds_LR=weaker.odds_LR + 0.7, expected_LR=strength * expit(weaker.odds_LR + 0.7))
    assert (fitted.probability(stronger) >= fitted.probability(weaker) * (1 - 1e-3)).all()


def test_more_data_moves_a_latent_from_its_group_to_its_own_slope() -> None:
    generator = np.random.default_rng(0)
    curve = np.abs(generator.normal(0, 2, (90, 4000))).astype(np.float32)
    slope = np.repeat([0.0, 1.0, 2.0], 30)
    rate = np.full(90, 0.05)
    base = intercepts(curve, slope, rate)
    active = generator.random(curve.shape) < expit(base[:, None] + slope[:, None] * curve)
    unknown = np.full(90, np.nan)
    much = fit_slopes(curve, active, rate, unknown, 3, 1.0).slope_L
    little = fit_slopes(curve[:, :100], active[:, :100], rate, unknown, 3, 1.0).slope_L
    assert np.abs(much - slope).mean() < 0.1 < np.abs(little - slope).mean()
    assert np.abs(little - slope).mean() < np.abs(little.mean() - slope).mean()
    none = fit_slopes(curve[:, :100], np.zeros((90, 100), bool), np.zeros(90), unknown, 3, 1.0)
    assert not none.slope_L.any()


def test_scores_form_groups_of_at_least_thirty() -> None:
    score = np.r_[np.linspace(0.5, 1, 90), np.full(10, np.nan)]
    assert np.bincount(score_groups(score, 3)).tolist() == [30, 30, 30, 10]
    assert np.bincount(score_groups(score[:40], 3)).tolist() == [40]
    assert not score_groups(np.full(5, np.nan), 3).any()
    assert GRID_G[0] == 0


def test_intercepts_solve_their_equation_for_any_rate() -> None:
    generator = np.random.default_rng(2)
    curve = generator.exponential(3, (6, 500)).astype(np.float32)
    curve[5] = np.nan
    rate = np.array([1e-6, 1e-3, 0.3, 0.999, 0.0, 0.2])
    found = intercepts(curve, np.full(6, 1.5), rate)
    for i in range(4):
        assert expit(found[i] + 1.5 * curve[i]).mean() == pytest.approx(rate[i], rel=1e-3)
    assert found[4] == -np.inf
    assert found[5] == pytest.approx(np.log(0.25))


def test_dead_latents_failed_reads_and_no_activity_at_all() -> None:
    data, fitted = case()
    logprobs = data.fresh_logprobs.copy()
    logprobs[:, 0] = np.nan
    signals = read_signals(logprobs, 0.05)
    np.testing.assert_allclose(fitted.values(signals)[:, 0], data.latents.mean_L, rtol=1e-6)
    assert np.isnan(fitted.probability(signals)[:, 0]).all()
    few = slice(0, 3)
    dead = Latents(np.array([0.0, 0.1, 0.1]), np.array([0.0, 2.0, 2.0]), np.zeros(3), np.full(3, np.nan))
    nothing = fit_posterior(read_signals(data.logprobs[few], 0.05), np.zeros_like(data.truth[few]), dead)
    values = nothing.values(read_signals(data.fresh_logprobs[few], 0.05))
    np.testing.assert_allclose(values, np.broadcast_to([[0.0], [0.2], [0.2]], values.shape), rtol=1e-3)
    failed = fit_posterior(read_signals(np.full((3, 20, 10), np.nan), 0), data.truth[few, :20], dead)
    np.testing.assert_allclose(
        failed.values(signals._replace(odds_LR=signals.odds_LR[few], expected_LR=signals.expected_LR[few]))[2],
        0.2,
        rtol=1e-3,
    )


def test_stored_maps_give_the_same_values() -> None:
    data, fitted = case()
    again = Posterior.from_arrays(fitted.to_arrays())
    values = fitted.values(data.fresh)
    np.testing.assert_array_equal(again.values(data.fresh), values)


def test_binary_predictions_work_too() -> None:
    data, _ = case()
    share = np.exp(data.logprobs.astype(np.float64))
    binary = np.log(np.stack([share[..., 0], share[..., 1:].sum(-1)], -1))
    fresh = np.exp(data.fresh_logprobs.astype(np.float64))
    fresh_binary = np.log(np.stack([fresh[..., 0], fresh[..., 1:].sum(-1)], -1))
    fitted = fit_posterior(read_signals(binary, 0), data.truth, data.latents)
    assert unexplained_variance(fitted.values(read_signals(fresh_binary, 0)), data) < 0.8
