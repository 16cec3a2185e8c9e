"""What is known of each latent from its activations. Arrays only."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.latents.arrays import IntArray
from nlsim.latents.csc import LATENT_SHIFT, TOKEN_SHIFT, parts, starts_of

CHUNK = 1 << 21  # activations looked at together


class LatentStatistics(NamedTuple):
    """Counts and values of M latents; S indexes `Split`."""

    active_MS: npt.NDArray[np.int64]
    """Tokens at which the latent is active."""
    rows_MS: npt.NDArray[np.int64]
    """Rows in which it is active."""
    sum_MS: npt.NDArray[np.float64]
    """Its activations summed."""
    max_M: npt.NDArray[np.float32]
    """Its largest activation; 0 when it is never active, as is the next."""
    robust_max_M: npt.NDArray[np.float32]
    """The smallest of its activations that at least the given part of them do not exceed."""


def statistics(
    sorted_keys: npt.NDArray[np.uint64], latents: int, split_R: IntArray, context: int, quantile: float
) -> LatentStatistics:
    """Statistics of a range of latents from their keys (see `csc`), in bounded memory."""
    indptr = starts_of(sorted_keys, latents)
    found = [
        _of_chunk(sorted_keys[indptr[a] : indptr[b]], a, indptr[a : b + 1] - indptr[a], split_R, context, quantile)
        for a, b in list(parts(np.diff(indptr), CHUNK)) or [(0, 0)]
    ]
    return LatentStatistics(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _of_chunk(
    keys: npt.NDArray[np.uint64], first: int, indptr: IntArray, split_R: IntArray, context: int, quantile: float
) -> LatentStatistics:
    latents, splits = len(indptr) - 1, len(Split)
    latent = (keys >> LATENT_SHIFT).astype(np.int64) - first
    row = ((keys >> TOKEN_SHIFT).astype(np.uint32) // np.uint32(context)).astype(np.int64)
    bits = keys.astype(np.uint16)
    value = bits.view(np.float16).astype(np.float64)
    cell = latent * splits + split_R[row]
    new_row = np.ones(len(keys), np.bool_)
    new_row[1:] = (np.diff(row) != 0) | (np.diff(latent) != 0)

    count = np.diff(indptr)
    by_value = (latent.astype(np.uint32) << np.uint32(16)) | bits  # for values ≥ 0 the order of bits is that of values
    by_value.sort()
    last = np.maximum(indptr[1:] - 1, 0)
    rank = np.ceil(quantile * count - 1e-9).astype(np.int64)  # the margin keeps rounding from raising a whole number
    robust = np.minimum(indptr[:-1] + np.maximum(rank - 1, 0), last)

    def at(place: IntArray) -> npt.NDArray[np.float32]:
        if not len(by_value):
            return np.zeros(latents, np.float32)
        found = by_value[place].astype(np.uint16).view(np.float16).astype(np.float32)
        return np.where(count > 0, found, np.float32(0))

    return LatentStatistics(
        active_MS=np.bincount(cell, minlength=latents * splits).reshape(latents, splits),
        rows_MS=np.bincount(cell[new_row], minlength=latents * splits).reshape(latents, splits),
        sum_MS=np.bincount(cell, weights=value, minlength=latents * splits).reshape(latents, splits).astype(np.float64),
        max_M=at(last),
        robust_max_M=at(robust),
    )
