"""From row-major codes to latent-major entries. Arrays only.

An activation becomes one 64-bit key, latent | token | value from high bits to low, so that *sorting plain integers*
turns row-major codes into latent-major ones in token order, and the low 48 bits of a sorted key are the stored entry.
(With vector instructions NumPy sorts such keys several times faster than it can argsort latents and gather the rest.)
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nlsim.latents.arrays import IntArray

ENTRY = np.dtype([("value", "<f2"), ("token", "<u4")])
"""One stored activation, 6 bytes: its value and its global token position. In files a row [3] of u16."""

MOST_LATENTS = 1 << 16
"""Latents that one set of keys can tell apart."""

MOST_TOKENS = 1 << 32
"""Global token positions that an entry can name."""

LATENT_SHIFT = np.uint64(48)
TOKEN_SHIFT = np.uint64(16)


def keys_of(
    latent: IntArray, value: npt.NDArray[np.float16], token: IntArray, low: int, high: int
) -> npt.NDArray[np.uint64]:
    """Keys of the activations of latents low ≤ latent < high (at most `MOST_LATENTS` of them), in the order they come.

    `latent` and `value` have one shape, to which `token` broadcasts: codes [n, k] with tokens [n, 1]. Values are ≥ 0
    and 0 means absent. Works in a few times 8 bytes per code: give it blocks.
    """
    bits = value.view(np.uint16)
    packed = latent.astype(np.uint64)
    packed -= np.uint64(low)  # latents below `low` wrap around to large numbers
    present = (bits != 0) & (packed < np.uint64(high - low))
    packed <<= LATENT_SHIFT
    packed |= token.astype(np.uint64) << TOKEN_SHIFT
    packed |= bits
    return packed[present]


def entries_of(sorted_keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """Sorted keys in the stored form [n, 3]: the memory of `ENTRY`, as a type that every array file knows."""
    return np.ascontiguousarray(sorted_keys.view("<u2").reshape(-1, 4)[:, :3])


def starts_of(sorted_keys: npt.NDArray[np.uint64], latents: int) -> npt.NDArray[np.int64]:
    """indptr [latents + 1]: latent i of the range has sorted_keys[indptr[i]:indptr[i + 1]]."""
    first = np.arange(latents, dtype=np.uint64) << LATENT_SHIFT
    return np.append(np.searchsorted(sorted_keys, first), len(sorted_keys)).astype(np.int64)


def read_entries(stored: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Global token positions (ascending inside a latent) and values of stored entries [n, 3]."""
    entries = np.ascontiguousarray(stored).reshape(-1).view(ENTRY)
    return entries["token"].astype(np.int64), entries["value"].astype(np.float32)


def parts(count: IntArray, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of latents that cover all of `count` (activations per latent).

    A range has at most `MOST_LATENTS` latents and at most `most` activations, except that one latent is never divided.
    """
    total = np.concatenate([[0], np.cumsum(count, dtype=np.int64)])
    start = 0
    while start < len(count):
        stop = int(np.searchsorted(total, total[start] + most, "right")) - 1
        stop = min(max(stop, start + 1), start + MOST_LATENTS, len(count))
        yield start, stop
        start = stop
