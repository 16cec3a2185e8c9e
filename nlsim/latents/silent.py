"""Contexts in which a latent is silent: at random, or hard ones that look like those in which it is active.

Every window is checked against the index, token by token, so it is silent because the coder said so and not because
nobody looked. It has the place in its row of an activating context, and comes from a row of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.latents.arrays import IntArray
from nlsim.latents.contexts import Contexts, Status, gather, generator, inside, nothing, place
from nlsim.latents.index import Activations, LatentIndex
from nlsim.latents.rows import TokenRows

CANDIDATES = 512
"""Occurrences of one token that are looked at."""
MISSES = 4
"""Rounds without success after which no silent window is looked for any more."""


class Occurrences(NamedTuple):
    """Where each token of the vocabulary stands in a split."""

    token: npt.NDArray[np.int64]
    """Global positions, by vocabulary number and then by position."""
    starts: npt.NDArray[np.int64]
    """[vocabulary + 1]: number i stands at token[starts[i]:starts[i + 1]]."""

    @classmethod
    def of(cls, rows: TokenRows, split: Split, excluded: IntArray) -> Occurrences:
        """Of all positions of a split but 0, padding and `excluded`."""
        token = np.setdiff1d(rows.positions(np.arange(*rows.block(split)), 1), excluded, assume_unique=True)
        ids = rows.ids(token)
        return cls(
            token[np.argsort(ids, kind="stable")].astype(np.int64), np.concatenate([[0], np.cumsum(np.bincount(ids))])
        )

    def some(self, number: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Up to `count` places of a token of the vocabulary, in random order."""
        if number + 1 >= len(self.starts):
            return self.token[:0]
        found = self.token[self.starts[number] : self.starts[number + 1]]
        return found[rng.choice(len(found), min(count, len(found)), replace=False)]


class Windows:
    """Silent windows being collected: one for each slot, each from another row."""

    def __init__(self, index: LatentIndex, active: Activations, like: Contexts, split: Split, count: int) -> None:
        self.index, self.active = index, active
        self.pattern = np.arange(count) % len(like.row_N)  # which activating context a slot imitates
        self.like = like
        self.first, self.last = index.rows.block(split)
        self.free = np.ones(self.last - self.first, np.bool_)
        self.free[like.row_N - self.first] = False
        self.row = np.full(count, -1, np.int64)
        self.start, self.length, self.target = (np.zeros(count, np.int64) for _ in range(3))

    @property
    def open(self) -> npt.NDArray[np.int64]:
        """Slots without a window."""
        return np.flatnonzero(self.row < 0)

    def offer(self, slot: IntArray, row: IntArray, start: IntArray, length: IntArray, target: IntArray) -> int:
        """Take of candidate windows, in order, those that fit, are silent and give an open slot a new row. How many."""
        rows = self.index.rows
        fits = (
            (start >= 1) & (start + length <= rows.length_R[row]) & self.free[row - self.first] & (self.row[slot] < 0)
        )
        begin = row * rows.context + start
        low, high = inside(self.active, begin, length)
        fits &= low == high
        fits &= np.searchsorted(self.index.excluded, begin) == np.searchsorted(self.index.excluded, begin + length)
        taken = np.flatnonzero(fits)
        taken = np.sort(taken[np.unique(row[taken], return_index=True)[1]])
        taken = taken[np.unique(slot[taken], return_index=True)[1]]
        for mine, theirs in ((self.row, row), (self.start, start), (self.length, length), (self.target, target)):
            mine[slot[taken]] = theirs[taken]
        self.free[row[taken] - self.first] = False
        return len(taken)


class SilentSampler:
    """Draws silent contexts that imitate activating ones. Generators as in `ContextSampler`."""

    def __init__(self, index: LatentIndex, seed: int = 0) -> None:
        self.index, self.seed = index, seed
        self._occurrences: dict[Split, Occurrences] = {}

    def random(self, like: Contexts, split: Split, count: int) -> Contexts:
        """Up to `count` silent windows of random rows of a split, at the places in their rows that `like` has.

        `like`: activating contexts of the same split; their rows are not used. Rows in which the latent is active
        elsewhere may be, so that there are windows even for a latent that is active in every row.
        """
        if not len(like.row_N):
            return nothing(like.latent, "dead", like.tokens_NL.shape[1], like.available)
        rng = generator(self.seed, "random", split, like.latent)
        windows = self._windows(like, split, count)
        self._fill_at_random(windows, rng)
        return self._finish(windows, count)

    def hard(self, like: Contexts, split: Split, count: int) -> Contexts:
        """Like `random`, but the target of a window is the very token that is the target of the context it imitates.

        Where no window with that token is silent, no other stands in for it: the status says that there are few.
        """
        if not len(like.row_N):
            return nothing(like.latent, "dead", like.tokens_NL.shape[1], like.available)
        rng = generator(self.seed, "hard", split, like.latent)
        windows = self._windows(like, split, count)
        same = like.tokens_NL[np.arange(len(like.row_N)), like.target_N][windows.pattern]
        for token in dict.fromkeys(same.tolist()):
            slots = np.flatnonzero(same == token)
            self._fill_with(windows, slots, self._occurring(split).some(token, CANDIDATES, rng))
        return self._finish(windows, count)

    def _windows(self, like: Contexts, split: Split, count: int) -> Windows:
        return Windows(self.index, self.index.activations(like.latent, split), like, split, count)

    def _fill_at_random(self, windows: Windows, rng: np.random.Generator) -> None:
        misses = 0
        while len(windows.open) and windows.free.any() and misses < MISSES:
            open_slots = rng.permutation(windows.open)
            row = windows.first + rng.permutation(np.flatnonzero(windows.free))[: 8 * len(open_slots) + 64]
            slot = np.resize(open_slots, len(row))
            like, pattern = windows.like, windows.pattern[slot]
            taken = windows.offer(slot, row, like.start_N[pattern], like.length_N[pattern], like.target_N[pattern])
            misses = 0 if taken else misses + 1

    def _fill_with(self, windows: Windows, slots: IntArray, token: IntArray) -> None:
        """Windows around the given global positions for some slots."""
        taken = 1
        while taken and len(slots) and len(token):
            slot = np.resize(slots, len(token))
            pattern = windows.pattern[slot]
            row, position = np.divmod(token, self.index.context)
            row_length = self.index.rows.length_R[row]
            start, length = place(position, row_length, windows.like.length_N[pattern], windows.like.target_N[pattern])
            reached = position < start + length
            candidates = (x[reached] for x in (slot, row, start, length, position - start))
            taken = windows.offer(*candidates)
            slots = slots[windows.row[slots] < 0]

    def _finish(self, windows: Windows, count: int) -> Contexts:
        like, done = windows.like, np.flatnonzero(windows.row >= 0)
        longest = like.tokens_NL.shape[1]
        if not len(done):
            return nothing(like.latent, "dense", longest, like.available)
        chosen = (windows.row[done], windows.start[done], windows.length[done], windows.target[done])
        status: Status = "ok" if len(done) == count else "few"
        silent = np.full(len(done), -1)
        return gather(self.index.rows, windows.active, like.latent, status, chosen, longest, like.available, silent)

    def _occurring(self, split: Split) -> Occurrences:
        if split not in self._occurrences:
            self._occurrences[split] = Occurrences.of(self.index.rows, split, self.index.excluded)
        return self._occurrences[split]
