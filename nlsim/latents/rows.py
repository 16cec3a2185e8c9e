"""The token rows a run works on, as the stages about latents need them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.errors import DataError
from nlsim.latents.arrays import IntArray, ranges
from nlsim.latents.csc import MOST_TOKENS

if TYPE_CHECKING:
    from nlsim.store.artifact import Artifact


class TokenRows:
    """Rows of tokens, BOS first, sorted by split.

    A *global token position* is row · context + position. Position 0 (BOS) and the padding after a row's length are
    never activations, examples or targets.
    """

    def __init__(self, tokens_RT: IntArray, length_R: IntArray, split_R: IntArray) -> None:
        self.tokens_RT = tokens_RT
        self.length_R = np.asarray(length_R, np.int64)
        self.split_R = np.asarray(split_R, np.uint8)
        self.count, self.context = tokens_RT.shape
        if tokens_RT.size > MOST_TOKENS:
            raise DataError(f"{tokens_RT.size} token positions are more than one run can index", "make several runs")
        if np.any(np.diff(self.split_R.astype(np.int64)) < 0):
            raise DataError("the token rows are not sorted by split", "make the tokens artifact again")

    @classmethod
    def of(cls, tokens: Artifact) -> TokenRows:
        """The rows of a *tokens* artifact."""
        arrays = tokens.arrays(0, "rows")
        return cls(arrays["tokens"], arrays["length"], arrays["split"])

    def block(self, split: Split) -> tuple[int, int]:
        """Rows [first, last) of a split."""
        first, last = np.searchsorted(self.split_R, [split, split + 1])
        return int(first), int(last)

    def of_splits(self, splits: Iterable[str]) -> npt.NDArray[np.int64]:
        """The rows of the named splits, ascending."""
        chosen = [int(Split[name.upper()]) for name in splits]
        return np.flatnonzero(np.isin(self.split_R, chosen))

    def positions(self, rows: IntArray, first: int = 0) -> npt.NDArray[np.int64]:
        """Global positions of the tokens of `rows`, one row after the other, from position `first` of each row."""
        return ranges(np.asarray(rows, np.int64) * self.context + first, np.maximum(self.length_R[rows] - first, 0))

    def ids(self, token: IntArray) -> npt.NDArray[np.int64]:
        """Vocabulary numbers of the tokens at global positions."""
        return self.tokens_RT.reshape(-1)[token].astype(np.int64)

    def usable(self, rows: IntArray, excluded: IntArray) -> npt.NDArray[np.int64]:
        """[splits]: positions of `rows` at which a latent can be active; `excluded` are global positions left out."""
        tokens = np.bincount(self.split_R[rows], weights=self.length_R[rows] - 1, minlength=len(Split))
        return (tokens - np.bincount(self.split_R[excluded // self.context], minlength=len(Split))).astype(np.int64)
