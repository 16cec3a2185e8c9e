"""The explain split as the lexical explainer reads it: every token with what stands before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nlsim.explain.quote import visible

NEAR = 10
"""How many tokens back a context word may stand; the token right before counts as a neighbour, not as context."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """P usable tokens of some rows, in order, and the text of the vocabulary."""

    token_P: Ints
    """Vocabulary numbers."""
    previous_P: Ints
    """The token before, BOS at a row's start."""
    row_P: Ints
    document_P: Ints
    position_P: Ints
    """Position in the row, ≥ 1."""
    pieces: Sequence[bytes]
    """Vocabulary number → the token's bytes in running text."""

    at_P: Ints
    """Global token positions, ascending: row · context + position."""

    @classmethod
    def of(
        cls,
        tokens_RT: npt.NDArray[np.integer],
        length_R: npt.NDArray[np.integer],
        document_R: npt.NDArray[np.integer],
        pieces: Sequence[bytes],
        first_row: int = 0,
    ) -> Reading:
        """Read consecutive rows (BOS first, right-padded), the first of which has number `first_row`."""
        tokens = np.asarray(tokens_RT, np.int64)
        within_RT = np.arange(tokens.shape[1]) < np.asarray(length_R)[:, None]
        within_RT[:, 0] = False
        row_P, position_P = np.nonzero(within_RT)
        return cls(
            tokens[row_P, position_P],
            tokens[row_P, position_P - 1],
            row_P + first_row,
            np.asarray(document_R, np.int64)[row_P],
            position_P,
            pieces,
            (row_P + first_row) * tokens.shape[1] + position_P,
        )

    def select(self, kept_P: npt.NDArray[np.bool_]) -> Reading:
        """The tokens of some rows: all of a row's or none."""
        return Reading(
            self.token_P[kept_P],
            self.previous_P[kept_P],
            self.row_P[kept_P],
            self.document_P[kept_P],
            self.position_P[kept_P],
            self.pieces,
            self.at_P[kept_P],
        )

    @cached_property
    def count_V(self) -> npt.NDArray[np.float64]:
        """How often each token of the vocabulary occurs."""
        return np.bincount(self.token_P, minlength=len(self.pieces)).astype(np.float64)

    @cached_property
    def previous_count_V(self) -> npt.NDArray[np.float64]:
        """How often each token of the vocabulary stands before a token."""
        return np.bincount(self.previous_P, minlength=len(self.pieces)).astype(np.float64)

    @cached_property
    def near(self) -> tuple[Ints, Ints]:
        """Pairs (place, word): the words that occur 2 to `NEAR` tokens before each place, each once per place."""
        wordlike = np.zeros(len(self.pieces), np.bool_)
        for token in np.unique(self.token_P):
            text = self.pieces[token].decode("utf-8", "replace").strip()
            wordlike[token] = len(text) >= 3 and text.isalpha()
        keys = []
        vocabulary = len(self.pieces)
        for back in range(2, NEAR + 1):
            place = np.flatnonzero(self.position_P > back)
            word = self.token_P[place - back]
            kept = wordlike[word]
            keys.append(place[kept] * vocabulary + word[kept])
        key = np.unique(np.concatenate(keys))
        return key // vocabulary, key % vocabulary

    @cached_property
    def near_count_V(self) -> npt.NDArray[np.float64]:
        """At how many places each word is near."""
        return np.bincount(self.near[1], minlength=len(self.pieces)).astype(np.float64)

    def text(self, token: int) -> str:
        """A token as explanations write it, without quotation marks."""
        return visible(self.pieces[token].decode("utf-8", "replace"))
