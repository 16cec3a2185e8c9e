"""What is kept of a text's true code, or stands in for it. Arrays only: S steps (tokens read), L latents under study.

Latents of the coder outside of those under study keep their true activations in every condition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.continuations.config import ContinuationsConfig

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

What = Literal["clean", "coder", "none", "top", "random", "help", "simulated"]


class Condition(NamedTuple):
    """One way to run the subject.

    `clean`: as it is. `coder`: from its true code. `none`: from no latent. `top`, `random`: from a fraction of the
    active latents of each token, the strongest or a random choice. `help`: from those active latents that a kind of
    explanations finds, with their true values. `simulated`: from the calibrated values of a kind.
    """

    what: What
    fraction: float = 1.0
    """Part of the active latents that is kept (`top` and `random`)."""
    kind: str = ""
    """Kind of explanations (`help` and `simulated`)."""

    @property
    def label(self) -> str:
        """`clean`, `top:0.3`, `help:base`: unique, and what tables and links call it."""
        if self.kind:
            return f"{self.what}:{self.kind}"
        return f"{self.what}:{self.fraction:g}" if self.what in ("top", "random") else self.what


CLEAN = Condition("clean")


class Predicted(NamedTuple):
    """What a kind of explanations says of a text."""

    probability_SL: Float32
    """Chance of activity; NaN for a latent that was not asked about, and where the prediction failed."""
    value_SL: Float32
    """Calibrated activation; where there is none, what `reconstruct.unexplained` says. NaN without calibration."""


def without_explanations(config: ContinuationsConfig) -> list[Condition]:
    """The conditions that need no explanations, CLEAN left out."""
    parts = [Condition(order, fraction) for order in config.orders for fraction in sorted(config.fractions)]
    return [Condition("coder"), Condition("none"), *parts]


def of_kind(kind: str, calibrated: bool) -> list[Condition]:
    """The conditions of one kind of explanations; values need calibration."""
    return [Condition("help", kind=kind), *([Condition("simulated", kind=kind)] if calibrated else [])]


def code_of(
    condition: Condition, truth_SL: Float32, predicted: Predicted | None, found_at: float, seed: Iterable[int]
) -> Float32:
    """[S, L] activations under a condition. `predicted`: of the condition's kind, where it has one."""
    match condition.what:
        case "clean" | "coder":
            return truth_SL
        case "none":
            return np.zeros_like(truth_SL)
        case "top":
            return np.where(kept(truth_SL, condition.fraction, -truth_SL), truth_SL, 0)
        case "random":
            return np.where(kept(truth_SL, condition.fraction, lots(truth_SL.shape, seed)), truth_SL, 0)
    if predicted is None:
        raise ValueError(f"{condition.label} needs predictions")
    if condition.what == "help":
        return np.where(predicted.probability_SL >= found_at, truth_SL, 0)  # NaN compares false
    return predicted.value_SL


def kept(truth_SL: Float32, fraction: float, order_SL: npt.NDArray[np.floating]) -> Bool:
    """Which active latents are kept: the max(1, round(fraction · n)) first by `order_SL` of a token's n active ones."""
    active_SL = truth_SL > 0
    count_S = active_SL.sum(1)
    most_S = np.where(count_S > 0, np.maximum(1, np.floor(fraction * count_S + 0.5)), 0)
    ranked_SL = np.argsort(np.where(active_SL, order_SL, np.inf), axis=1, kind="stable")
    rank_SL = np.empty_like(ranked_SL)
    np.put_along_axis(rank_SL, ranked_SL, np.arange(truth_SL.shape[1])[None], axis=1)
    return np.asarray(active_SL & (rank_SL < most_S[:, None]))


def lots(shape: tuple[int, ...], seed: Iterable[int]) -> Float32:
    """A random order of the latents at each step, which depends on (seed, step) alone: neither on the text nor on the
    fraction, so that a smaller fraction keeps a part of what a larger one keeps."""
    start = list(seed)
    return np.array(
        [np.random.default_rng([*start, step]).permutation(shape[1]) for step in range(shape[0])], np.float32
    ).reshape(shape)
