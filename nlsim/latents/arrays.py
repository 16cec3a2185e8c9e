"""Types of arrays and the even cutting of rows and latents into shards."""

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]


def cuts(total: int, shards: int) -> npt.NDArray[np.int64]:
    """Where `total` things are cut into `shards` blocks of equal size up to one: block i is [cuts[i], cuts[i + 1])."""
    return np.arange(shards + 1, dtype=np.int64) * total // shards


def ranges(start: IntArray, count: IntArray) -> npt.NDArray[np.int64]:
    """The ranges [start, start + count), one after the other."""
    ends = np.cumsum(count, dtype=np.int64)
    within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
    return np.repeat(start.astype(np.int64), count) + within
