"""Reading what latents do: one latent everywhere, all latents somewhere, and the table of latents."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.errors import UsageError
from nlsim.latents.arrays import IntArray, cuts
from nlsim.latents.codes import CodeReader, RowCodes
from nlsim.latents.csc import read_entries
from nlsim.latents.rows import TokenRows

if TYPE_CHECKING:
    from nlsim.store.artifact import Artifact


class Activations(NamedTuple):
    """Where a latent is active, in order of position. Every array has one entry per active token."""

    token: npt.NDArray[np.int64]
    """Global position: row · context + position."""
    row: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    """Position in the row, ≥ 1."""
    value: npt.NDArray[np.float32]
    """> 0"""


class LatentTable(NamedTuple):
    """What is known of every latent: arrays [width], or [width, splits] with `Split` as the second index."""

    active_MS: npt.NDArray[np.int64]
    """Tokens at which a latent is active."""
    rows_MS: npt.NDArray[np.int64]
    """Rows in which it is active."""
    sum_MS: npt.NDArray[np.float64]
    """Its activations summed."""
    max_M: npt.NDArray[np.float32]
    robust_max_M: npt.NDArray[np.float32]
    """`index.robust_quantile` (99.9 %) of its activations do not exceed it; 0 for a dead latent."""
    decoder_norm_M: npt.NDArray[np.float32]
    usable_S: npt.NDArray[np.int64]
    """Tokens of each split at which a latent could have been active: no position 0, padding or excluded outliers."""

    def density(self, split: Split | None = None) -> npt.NDArray[np.float64]:
        """[width]: part of the usable tokens (of a split) at which each latent is active."""
        return self._per_token(self.active_MS, split)

    def mean(self, split: Split | None = None) -> npt.NDArray[np.float64]:
        """[width]: mean activation over the usable tokens (of a split), silent ones included."""
        return self._per_token(self.sum_MS, split)

    def _per_token(
        self, x_MS: npt.NDArray[np.int64] | npt.NDArray[np.float64], split: Split | None
    ) -> npt.NDArray[np.float64]:
        total, tokens = (x_MS.sum(1), self.usable_S.sum()) if split is None else (x_MS[:, split], self.usable_S[split])
        return total / max(int(tokens), 1)


class LatentIndex:
    """The *index* and *cache* artifacts of a run, read together. Opening it reads little; latents are read as asked."""

    def __init__(self, tokens: Artifact, cache: Artifact, index: Artifact) -> None:
        self.rows = TokenRows.of(tokens)
        self.codes = CodeReader(cache, self.rows)
        self.context = self.rows.context
        self.width = self.codes.width
        self._index = index
        self._cuts = cuts(self.width, index.shards)
        self._indptr: dict[int, npt.NDArray[np.int64]] = {}

    def activations(self, latent: int, split: Split | None = None) -> Activations:
        """All activations of a latent (in one split), by one ranged read. Raises UsageError if there is none."""
        if not 0 <= latent < self.width:
            raise UsageError(f"there is no latent {latent}", f"the coder has {self.width}, numbered from 0")
        shard = int(np.searchsorted(self._cuts, latent, "right")) - 1
        if shard not in self._indptr:
            self._indptr[shard] = self._index.array(shard, "csc", "indptr")
        place = latent - self._cuts[shard]
        start, stop = (int(entry) for entry in self._indptr[shard][place : place + 2])
        token, value = read_entries(self._index.array(shard, "csc", "entries", start, stop))
        if split is not None:
            first, last = np.searchsorted(token, np.array(self.rows.block(split)) * self.context)
            token, value = token[first:last], value[first:last]
        row = token // self.context
        return Activations(token, row, token - row * self.context, value)

    def codes_of_rows(self, rows: IntArray) -> RowCodes:
        """The true codes of all tokens of `rows`, outliers included; see `CodeReader.of_rows`."""
        return self.codes.of_rows(rows)

    @cached_property
    def table(self) -> LatentTable:
        """What is known of every latent."""
        table = self._index.tables("latents")

        def column(name: str) -> npt.NDArray[Any]:
            found: npt.NDArray[Any] = table.column(name).to_numpy()
            return found

        def by_split(name: str) -> npt.NDArray[Any]:
            return np.stack([column(f"{name}_{split.key}") for split in Split], axis=1)

        return LatentTable(
            by_split("active"),
            by_split("rows"),
            by_split("sum"),
            column("max"),
            column("robust_max"),
            column("decoder_norm"),
            self.rows.usable(self.codes.rows, self.excluded),
        )

    @cached_property
    def excluded(self) -> npt.NDArray[np.int64]:
        """Global positions of the outliers that the index leaves out, ascending."""
        coverage = self._index.json(0, "coverage")
        return self.codes.outliers if coverage["outliers"] == "exclude" else np.zeros(0, np.int64)
