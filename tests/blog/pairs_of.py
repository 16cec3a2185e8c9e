"""Pairs made by hand."""

from collections.abc import Sequence

import numpy as np

from nlsim.blog.pairs import Pairs


def pairs_of(
    probability_RL: Sequence[Sequence[float]],
    activation_RL: Sequence[Sequence[float]],
    weight_RL: Sequence[Sequence[float]] | None = None,
    expected_RL: Sequence[Sequence[float]] | None = None,
) -> Pairs:
    """All pairs of R reads and L latents."""
    probability = np.asarray(probability_RL, np.float32)
    activation = np.asarray(activation_RL, np.float32)
    weight = np.ones_like(probability) if weight_RL is None else np.asarray(weight_RL, np.float32)
    expected = 9 * probability if expected_RL is None else np.asarray(expected_RL, np.float32)
    reads, latents = probability.shape
    silent_R = np.where(activation > 0, 0, weight).sum(1).astype(np.float64)
    return Pairs(
        np.tile(np.arange(latents), reads), np.repeat(np.arange(reads), latents), activation.ravel(), expected.ravel(),
        probability.ravel(), weight.ravel(), 10 * np.arange(reads), silent_R,
    )  # fmt: skip
