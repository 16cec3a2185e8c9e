"""Evaluation windows: the stretch of a row that is shown and the positions that are predicted in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_STREAM = 0x77696E64  # keeps these draws apart from others that use the same (seed, row)


class Windows(NamedTuple):
    """One window per row, in the order the rows were given. BOS is never shown and never predicted."""

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    """First position shown."""
    first: NDArray[np.int64]
    """First position predicted."""
    stop: NDArray[np.int64]
    """Position after the last one predicted, which is the last one shown."""

    def positions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(window, position) of every predicted position, window by window."""
        count = self.stop - self.first
        window = np.repeat(np.arange(len(count)), count)
        inside = np.arange(len(window)) - np.repeat(np.cumsum(count) - count, count)
        return window, self.first[window] + inside


def windows(
    mode: Literal["last", "all"],
    rows: Sequence[int] | NDArray[np.integer],
    lengths: Sequence[int] | NDArray[np.integer],
    seed: int = 0,
    length: int | None = None,
) -> Windows:
    """The windows of the given rows. lengths: tokens of each, BOS included; at least 3.

    `all`: the whole row; every position after BOS is predicted. `last`: `length` tokens (default: all since BOS)
    ending at one predicted position, which is drawn uniformly from those that leave room for the window before it and
    for the next token after it; in a row too short for both the window is cut short. Each row's draw has a generator
    of its own, so that it depends neither on the order of rows nor on which others are drawn.
    """
    row, end = np.asarray(rows, np.int64), np.asarray(lengths, np.int64)
    if mode == "all":
        return Windows(row, np.ones_like(row), np.ones_like(row), end)
    last = end - 2  # the last position whose next token is in the row
    earliest = np.minimum(1 if length is None else length, last)
    drawn = [generator(seed, r).integers(a, b, endpoint=True) for r, a, b in zip(row, earliest, last, strict=True)]
    target = np.array(drawn, np.int64).reshape(-1)
    start = np.ones_like(target) if length is None else np.maximum(1, target - length + 1)
    return Windows(row, start, target, target + 1)


def generator(seed: int, row: int) -> np.random.Generator:
    """The random numbers of one row's window; nothing else draws from them."""
    return np.random.default_rng((_STREAM, seed, row))
