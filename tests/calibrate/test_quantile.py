"""Quantile normalisation."""

import numpy as np
import pytest
from calibrate.planted import planted, unexplained_variance

from nlsim.calibrate.quantile import fit_quantile_map

LEVELS = np.linspace(0, 1, 33)


def test_values_have_the_true_distribution_zeros_included() -> None:
    generator = np.random.default_rng(0)
    expected = generator.beta(0.2, 3, (3, 4000)) * 9
    active = np.quantile(generator.gamma(2, 1, (3, 2000)), LEVELS, axis=1).T
    density = np.array([0.02, 0.1, 0.5])
    values = fit_quantile_map(expected, density, active, pooled_reads=0).values(expected)
    np.testing.assert_allclose((values > 0).mean(1), density, atol=0.003)
    for value, quantiles in zip(values, active, strict=True):
        assert value[value > 0].mean() == pytest.approx(
            np.interp(np.linspace(0, 1, 999), LEVELS, quantiles).mean(), rel=0.05
        )
    order = np.argsort(expected[1])
    assert (np.diff(values[1][order]) >= 0).all()


def test_pooling_lets_a_rare_latent_with_few_reads_be_active() -> None:
    """Of 50 reads none can rank above 1 − 0.001; the pool of all latents' predictions decides."""
    generator = np.random.default_rng(1)
    expected = np.concatenate([generator.beta(0.5, 8, (200, 50)) * 9, np.full((1, 50), 0.1)])
    active = np.tile(np.linspace(1, 2, 33), (201, 1))
    density = np.full(201, 0.001)
    strong = np.full((201, 1), 8.9)
    alone = fit_quantile_map(expected, density, active, pooled_reads=0)
    pooled = fit_quantile_map(expected, density, active, pooled_reads=100)
    assert pooled.values(strong)[-1] > 1
    assert (pooled.values(expected) > 0).mean() < 0.01
    assert not (alone.values(strong)[-1] > 0).any()


def test_constant_dead_and_failed_predictions() -> None:
    expected = np.array([np.full(100, 2.0), np.linspace(0, 9, 100), np.full(100, np.nan)])
    active = np.ones((3, 33))
    fitted = fit_quantile_map(expected, np.array([0.1, 0.0, 0.1]), active, pooled_reads=0)
    values = fitted.values(expected)
    assert not values[0].any()  # a constant says nothing: no read ranks above another
    assert not values[1].any()
    assert np.isnan(values[2]).all()


def test_it_beats_the_linear_map_on_overconfident_predictions() -> None:
    from nlsim.calibrate.linear import linear_values

    case = planted()
    active = np.stack([np.quantile(t[t > 0], LEVELS) if (t > 0).any() else np.zeros(33) for t in case.truth])
    fitted = fit_quantile_map(case.signals.expected_LR, case.latents.density_L, active, 100)
    quantile = unexplained_variance(fitted.values(case.fresh.expected_LR), case)
    assert quantile < unexplained_variance(linear_values(case.fresh.expected_LR, case.latents.robust_max_L), case)
