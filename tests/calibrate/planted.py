"""Latents with known activity whose predictions are noisy functions of it."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from nlsim.calibrate.signals import Latents, Signals, read_signals


class Planted(NamedTuple):
    """A simulator's answers about latents, on calibration and on fresh reads."""

    logprobs: np.ndarray
    truth: np.ndarray
    fresh_logprobs: np.ndarray
    fresh_truth: np.ndarray
    latents: Latents
    quality: np.ndarray
    """How much the predictions of each latent say, 0: nothing."""

    @property
    def signals(self) -> Signals:
        return read_signals(self.logprobs, 0.05)

    @property
    def fresh(self) -> Signals:
        return read_signals(self.fresh_logprobs, 0.05)


def planted(count: int = 160, reads: int = 900, fresh: int = 1500, seed: int = 0) -> Planted:
    """Latents of densities 0.3 % to 10 % and of very different scales; a third has predictions that say nothing.

    The simulator's idea of each latent's base rate is wrong by a random factor, as language models' are.
    """
    generator = np.random.default_rng(seed)
    density = np.exp(generator.uniform(np.log(0.003), np.log(0.1), count))
    scale = np.exp(generator.normal(0, 1.5, count))
    quality = generator.uniform(1, 6, count) * (generator.random(count) < 0.67)
    shape = (count, reads + fresh)
    relative = (generator.random(shape) < density[:, None]) * generator.gamma(2, 0.5, shape)
    seen = (relative > 0) * np.clip(0.4 + 0.6 * relative, 0, 1.5)
    noise = generator.normal(0, 1, shape) * (0.3 + 0.35 * np.sqrt(quality))[:, None]
    odds = -4 + generator.normal(0, 1.5, count)[:, None] + quality[:, None] * seen + noise
    digit = np.clip(1 + 0.5 * quality[:, None] * relative + generator.normal(0, 1, shape), 1, 9)
    size = np.exp(-((np.arange(1, 10) - digit[..., None]) ** 2) / 4)
    active = expit(odds)[..., None]
    logprobs = np.log(np.concatenate([1 - active, active * size / size.sum(-1, keepdims=True)], -1) + 1e-9)
    truth = relative * scale[:, None]
    latents = Latents(
        density_L=generator.binomial(100_000, density) / 100_000,
        active_mean_L=scale,
        robust_max_L=3 * scale,
        score_L=0.5 + quality / 12 + generator.normal(0, 0.05, count),
    )
    stored = logprobs.astype(np.float16)
    return Planted(stored[:, :reads], truth[:, :reads], stored[:, reads:], truth[:, reads:], latents, quality)


def unexplained_variance(values: np.ndarray, planted: Planted, chosen: np.ndarray | slice = slice(None)) -> float:
    """Squared error on fresh reads over that of the latents' means, each latent in units of its mean activation."""
    unit = planted.latents.active_mean_L[chosen, None]
    truth, mean = planted.fresh_truth[chosen], planted.latents.mean_L[chosen, None]
    return float((((values[chosen] - truth) / unit) ** 2).sum() / (((mean - truth) / unit) ** 2).sum())
