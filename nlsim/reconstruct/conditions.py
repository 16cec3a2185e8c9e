"""What stands in for the true activations: every condition as a code, built from arrays alone. N positions, L latents.

The latents under study are those of the run; latents of the coder outside of it keep their true activations in every
condition, as do the latents that a fraction leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.reconstruct.config import Clip, Position, ReconstructConfig, Values

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SIMULATED: tuple[Values, ...] = ("linear", "quantile", "posterior", "shuffled", "shuffled_refitted")
"""Values that come from predictions, and that clipping applies to."""


class Condition(NamedTuple):
    """One patched run."""

    values: Values
    fraction: float = 1.0
    """Part of the latents under study that is replaced."""
    order: str = "all"
    """`score`: best-scored first; `random`; `all` where the fraction is 1."""
    draw: int = 0
    """Which random selection."""
    clip: Clip = "none"
    positions: Position = "all"


def conditions_of(config: ReconstructConfig, curve: bool) -> list[Condition]:
    """The conditions of one batch of rows; `curve`: with those along the fractions.

    Without clipping or at fraction 1 there is one condition each, however many ways lead to it.
    """
    found: list[Condition] = []
    for positions in config.positions:
        for values in config.values:
            clips: tuple[Clip, ...] = config.clips if values in SIMULATED else ("none",)
            found += [Condition(values, clip=clip, positions=positions) for clip in clips]
        if curve:
            found += [one._replace(positions=positions) for one in _along_fractions(config)]
    return list(dict.fromkeys(found))


def _along_fractions(config: ReconstructConfig) -> Iterator[Condition]:
    for values in config.curve_values:
        clip: Clip = config.curve_clip if values in SIMULATED else "none"
        for fraction in config.fractions:
            if fraction == 1:
                yield Condition(values, clip=clip)
                continue
            yield Condition(values, fraction, "score", 0, clip)
            for draw in range(config.random_draws):
                yield Condition(values, fraction, "random", draw, clip)


def replaced(fraction: float, order: str, draw: int, score_L: Float64, seed: int) -> Int:
    """Which latents a fraction replaces: max(1, round(fraction · L)) of *all* L latents under study, ascending.

    `score`: the best-scored ones, ties by number, latents without a score last. `random`: the first of a permutation
    that depends on (seed, draw) only, so that the fractions of a draw are nested and no other draw moves them.
    """
    latents = len(score_L)
    count = min(latents, max(1, round(fraction * latents)))
    if order == "random":
        ranked = np.random.default_rng([seed, draw]).permutation(latents)
    else:
        ranked = np.argsort(-np.nan_to_num(score_L, nan=-np.inf), kind="stable")
    return np.sort(ranked[:count])


def permuted(truth_NL: Float32, at_N: Int, seed: int) -> Float32:
    """The control `random`: at each position the true non-zero values, on latents drawn at random without repetition.

    `at_N` are global positions: the draw depends on (seed, position) alone.
    """
    result_NL = np.zeros_like(truth_NL)
    for truth_L, result_L, at in zip(truth_NL, result_NL, at_N.tolist(), strict=True):
        value = truth_L[truth_L > 0]
        chosen = np.random.default_rng([seed, at]).choice(len(truth_L), len(value), replace=False)
        result_L[chosen] = value
    return result_NL


def with_policy(
    value_NL: Float32, predicted_L: npt.NDArray[np.bool_], policy: str, mean_L: Float64, truth_NL: Float32
) -> Float32:
    """Simulated values with latents that have no prediction set by policy (`mean`, `zero`, or `true`), never silently
    true."""
    instead = {
        "mean": np.broadcast_to(mean_L.astype(np.float32), truth_NL.shape),
        "zero": np.zeros_like(truth_NL),
        "true": truth_NL,
    }
    return np.where(predicted_L, value_NL, instead[policy])
