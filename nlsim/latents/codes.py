"""The *cache* artifact read row by row: the true code of every token, in the context it was cached in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.errors import UsageError
from nlsim.latents.arrays import IntArray, cuts
from nlsim.latents.rows import TokenRows

if TYPE_CHECKING:
    from nlsim.store.artifact import Artifact

BLOCK = 1 << 17  # codes in one block of `CodeReader.blocks`


class Block(NamedTuple):
    """Codes of some consecutive tokens; `token` broadcasts to the shape of `latent` and `value`."""

    latent: IntArray
    value: npt.NDArray[np.float16]
    token: npt.NDArray[np.int64]
    rows_done: int
    """Cached rows up to the end of this block."""


class RowCodes(NamedTuple):
    """The codes of N tokens, as a sparse matrix in row form (its rows are the tokens)."""

    token_N: npt.NDArray[np.int64]
    """Global token positions."""
    indptr: npt.NDArray[np.int64]
    """[N + 1]: token n has latent[indptr[n]:indptr[n + 1]]."""
    latent: npt.NDArray[np.int64]
    """Latents, strongest first inside a token."""
    value: npt.NDArray[np.float32]
    """Their activations, > 0."""

    def dense(self, latents: IntArray, width: int) -> npt.NDArray[np.float32]:
        """[N, len(latents)] activations of chosen latents, 0 where silent. `width`: number of latents of the coder."""
        column = np.full(width, -1, np.int64)
        column[latents] = np.arange(len(latents))
        place = column[self.latent]
        known = place >= 0
        line = np.repeat(np.arange(len(self.token_N)), np.diff(self.indptr))
        dense_NL = np.zeros((len(self.token_N), len(latents)), np.float32)
        dense_NL[line[known], place[known]] = self.value[known]
        return dense_NL

    def select(self, wanted: npt.NDArray[np.bool_]) -> RowCodes:
        """The tokens at which `wanted` [N] is true."""
        count = np.diff(self.indptr)
        kept = np.repeat(wanted, count)
        indptr = np.concatenate([[0], np.cumsum(count[wanted])])
        return RowCodes(self.token_N[wanted], indptr, self.latent[kept], self.value[kept])


class CodeReader:
    """Reads the cache: whole (`blocks`) or some rows (`of_rows`), every number by ranged reads of bounded size."""

    def __init__(self, cache: Artifact, rows: TokenRows) -> None:
        self.cache = cache
        facts = cache.json(0, "coder")
        self.width = int(facts["width"])
        self.per_token: int | None = facts["per_token"]
        """Codes stored for every token; None when tokens differ."""
        self.rows = rows.of_splits(facts["splits"])
        """The rows that were cached, ascending."""
        self.row_data = rows
        self._cuts = cuts(len(self.rows), cache.shards)
        length = rows.length_R[self.rows]
        self._first_code = np.concatenate([[0], np.cumsum(length)])  # of each cached row, all shards laid end to end

    @cached_property
    def active_M(self) -> npt.NDArray[np.int64]:
        """[width]: codes stored per latent, outlier positions included."""
        total = np.zeros(self.width, np.int64)
        for shard in range(self.cache.shards):
            total += self.cache.arrays(shard, "statistics")["active"]
        return total

    @cached_property
    def decoder_norm_M(self) -> npt.NDArray[np.float32]:
        """[width]: length of each latent's decoder vector."""
        norm: npt.NDArray[np.float32] = self.cache.arrays(0, "statistics")["decoder_norm"]
        return norm

    @cached_property
    def outliers(self) -> npt.NDArray[np.int64]:
        """Global positions of the outliers among the cached tokens, ascending."""
        shards = [self.cache.arrays(shard, "statistics")["outlier"] for shard in range(self.cache.shards)]
        return np.sort(np.concatenate(shards).astype(np.int64))

    def blocks(self, excluded: IntArray) -> Iterator[Block]:
        """All codes in row order, a block at a time, without those at the global positions `excluded` (ascending)."""
        for shard in range(self.cache.shards):
            codes = self.cache.arrays(shard, "codes")
            token = self.row_data.positions(self.rows[self._cuts[shard] : self._cuts[shard + 1]])
            index, value = codes["index"], codes["value"]
            if self.per_token is None:
                token = np.repeat(token, np.diff(codes["indptr"]))
            step = max(1, BLOCK // (self.per_token or 1))
            for n in range(0, len(token), step):
                yield self._block(index[n : n + step], value[n : n + step], token[n : n + step], excluded)

    def _block(
        self, latent: IntArray, value: npt.NDArray[np.float16], token: npt.NDArray[np.int64], excluded: IntArray
    ) -> Block:
        rows_done = int(np.searchsorted(self.rows, token[-1] // self.row_data.context)) + 1
        start, stop = np.searchsorted(excluded, [token[0], token[-1] + 1])
        if start < stop:
            kept = ~np.isin(token, excluded[start:stop])
            latent, value, token = latent[kept], value[kept], token[kept]
        return Block(latent, value, token if latent.ndim == 1 else token[:, None], rows_done)

    def of_rows(self, rows: IntArray) -> RowCodes:
        """The codes of all tokens of `rows` (ascending, each once), position 0 with an empty code.

        Raises UsageError for a row that was not cached.
        """
        wanted = np.asarray(rows, np.int64)
        if np.any(np.diff(wanted) <= 0):
            raise UsageError("rows must ascend", "sort them and name each once")
        place = np.searchsorted(self.rows, wanted)
        known = (place < len(self.rows)) & (self.rows[np.minimum(place, len(self.rows) - 1)] == wanted)
        if not known.all():
            raise UsageError(f"row {wanted[~known][0]} was not cached", "add its split to cache.splits")
        runs = [self._run(int(run[0]), int(run[-1]) + 1) for run in _runs(place, self._cuts)]
        count = np.concatenate([np.zeros(0, np.int64), *(run[0] for run in runs)])
        return RowCodes(
            self.row_data.positions(wanted),
            np.concatenate([[0], np.cumsum(count)]),
            np.concatenate([np.zeros(0, np.int64), *(run[1] for run in runs)]),
            np.concatenate([np.zeros(0, np.float32), *(run[2] for run in runs)]),
        )

    def _run(self, first: int, last: int) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
        """Codes per token, latents and values of the cached rows [first, last), which lie in one shard."""
        shard = int(np.searchsorted(self._cuts, first, "right")) - 1
        base = self._first_code[self._cuts[shard]]
        start, stop = int(self._first_code[first] - base), int(self._first_code[last] - base)

        def read(key: str, a: int, b: int) -> npt.NDArray[np.generic]:
            return self.cache.array(shard, "codes", key, a, b)

        if self.per_token is None:
            indptr = read("indptr", start, stop + 1).astype(np.int64)
            a, b = int(indptr[0]), int(indptr[-1])
            return np.diff(indptr), read("index", a, b).astype(np.int64), read("value", a, b).astype(np.float32)
        value = read("value", start, stop)
        present = value != 0
        return present.sum(1), read("index", start, stop)[present].astype(np.int64), value[present].astype(np.float32)


def _runs(place: IntArray, shard_cuts: IntArray) -> list[IntArray]:
    """`place` in pieces of consecutive numbers that do not cross a cut."""
    breaks = (np.diff(place) != 1) | (np.diff(np.searchsorted(shard_cuts, place, "right")) != 0)
    return [piece for piece in np.split(place, np.flatnonzero(breaks) + 1) if len(piece)]
