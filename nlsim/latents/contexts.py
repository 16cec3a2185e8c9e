"""Contexts to show or test a latent with: windows of text in which it is active. Windows where it is silent: `silent`.

Examples for explaining are drawn from the explain split and examples for scoring from the score split. A document is in
one split, so the two never share text, whatever the seeds; inside a split every context comes from another row.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.latents.arrays import FloatArray, IntArray, ranges
from nlsim.latents.index import Activations, LatentIndex
from nlsim.latents.rows import TokenRows

Kind = Literal["top", "random", "quantiles", "importance"]

Status = Literal["ok", "few", "dead", "dense"]
"""`ok`: as many contexts as asked for; `few`: fewer, all there are; `dead`: none, the latent is not active there;
`dense`: none, it is silent in no window of the split that would do."""

LEAD = 0.75
"""Where in its window a target is placed, unless the row's ends forbid: three quarters of the text come before it."""


class Contexts(NamedTuple):
    """N windows of up to L tokens for one latent, each from another row, none with position 0 of its row."""

    latent: int
    status: Status
    available: int
    """Rows of the split in which the latent is active: the contexts there were to choose from."""
    row_N: npt.NDArray[np.int64]
    start_N: npt.NDArray[np.int64]
    """First position of the window in its row, ≥ 1."""
    length_N: npt.NDArray[np.int64]
    """Tokens of the window, ≤ L; fewer only where the row is shorter."""
    target_N: npt.NDArray[np.int64]
    """Offset in the window of the token it was chosen for."""
    tokens_NL: npt.NDArray[np.int64]
    """Vocabulary numbers, 0 after the window's length."""
    activation_NL: npt.NDArray[np.float32]
    """The latent's activation at each token, in the context of the whole row."""
    quantile_N: npt.NDArray[np.int64]
    """Rank quantile of the window's strength among all available, 0 the strongest; -1 in silent contexts."""

    @property
    def strength_N(self) -> npt.NDArray[np.float32]:
        """The largest activation in each window."""
        return self.activation_NL.max(1, initial=0.0)

    def some(self, kept: IntArray) -> Contexts:
        """The contexts of these numbers, in this order."""
        each = [name for name in self._fields if name.endswith(("_N", "_NL"))]
        return self._replace(**{name: getattr(self, name)[kept] for name in each})

    def target_tokens(self, context: int) -> npt.NDArray[np.int64]:
        """Global positions of the targets, in rows of `context` positions."""
        return self.row_N * context + self.start_N + self.target_N


class ContextSampler:
    """Draws activating contexts. The generator of a draw depends on (seed, latent, split) alone, not on other draws."""

    def __init__(self, index: LatentIndex, length: int = 32, seed: int = 0) -> None:
        self.index, self.length, self.seed = index, length, seed

    def draw(self, latent: int, split: Split, count: int, kind: Kind, quantiles: int = 10) -> Contexts:
        """Up to `count` contexts of a split, strongest first; all of them where there are no more.

        Every row in which the latent is active is one candidate: a window around one of its activations, the strongest
        for `top`, any one otherwise. The strength of a candidate is the largest activation in its window.

        - `top`: the strongest.
        - `random`: every candidate equally likely.
        - `quantiles`: candidates ranked by strength and cut into `quantiles` parts of equal size up to one, part 0 the
          strongest; an equal number from each part (the stronger parts get the remainder). What a part is too small to
          give is drawn from all others.
        - `importance`: without replacement, with chances in proportion to the activation summed over the window.
        """
        rng = generator(self.seed, "activating", split, latent)
        active = self.index.activations(latent, split)
        first = np.flatnonzero(np.diff(active.row, prepend=-1))
        if not len(first):
            return nothing(latent, "dead", self.length)
        per_row = np.diff(first, append=len(active.row))
        if kind == "top":
            focus = first_of_rows(active, first, per_row)
        else:
            focus = first + np.floor(rng.random(len(first)) * per_row).astype(np.int64)
        row, position = active.row[focus], active.position[focus]
        start, length = place(position, self.index.rows.length_R[row], self.length, int(LEAD * (self.length - 1)))
        low, high = inside(active, row * self.index.context + start, length)
        strength = segments(np.maximum, active.value, low, high)
        order = np.argsort(-strength, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        quantile = rank * quantiles // len(order)
        if kind == "top":
            chosen = order[:count]
        elif kind == "random":
            chosen = rng.permutation(len(order))[:count]
        elif kind == "quantiles":
            chosen = spread(quantile, quantiles, count, rng)
        else:
            mass = segments(np.add, active.value.astype(np.float64), low, high)
            # Largest log-weight + Gumbel noise: successive draws without replacement (Efraimidis, Spirakis 2006).
            chosen = np.argsort(-(np.log(mass) + rng.gumbel(size=len(mass))), kind="stable")[:count]
        chosen = chosen[np.argsort(rank[chosen])]
        return gather(
            self.index.rows,
            active,
            latent,
            "ok" if len(chosen) == count else "few",
            (row[chosen], start[chosen], length[chosen], position[chosen] - start[chosen]),
            self.length,
            available=len(order),
            quantile_N=quantile[chosen],
        )


def generator(seed: int, purpose: str, split: Split, latent: int) -> np.random.Generator:
    """A generator of its own for every (seed, purpose, split, latent): no result depends on the order of calls."""
    return np.random.default_rng([seed, int.from_bytes(purpose.encode(), "little"), int(split), latent])


def first_of_rows(active: Activations, first: IntArray, per_row: IntArray) -> npt.NDArray[np.int64]:
    """Of each row's activations, which begin at `first`, the strongest (of equal ones the earliest)."""
    peak = np.repeat(np.maximum.reduceat(active.value, first), per_row)
    peaks = np.flatnonzero(active.value == peak)
    _, earliest = np.unique(active.row[peaks], return_index=True)
    return peaks[earliest]


def place(
    position: IntArray, row_length: IntArray, length: int | IntArray, before: int | IntArray
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and length of windows with `before` tokens before `position`, moved to lie inside [1, row_length)."""
    start = np.clip(position - before, 1, np.maximum(row_length - length, 1))
    return start, np.minimum(length, row_length - start)


def inside(active: Activations, start: IntArray, length: IntArray) -> tuple[IntArray, IntArray]:
    """Which activations lie in the windows that begin at global positions `start`: entries [low, high)."""
    return np.searchsorted(active.token, start), np.searchsorted(active.token, start + length)


def segments(reduce: np.ufunc, value: FloatArray, low: IntArray, high: IntArray) -> npt.NDArray[np.float64]:
    """`reduce` over each non-empty value[low:high]."""
    bounds = np.stack([low, high], axis=1).reshape(-1)
    found: npt.NDArray[np.float64] = reduce.reduceat(np.append(value, value[:1]), bounds)[::2]
    return found


def spread(quantile: IntArray, quantiles: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """`count` candidates, or all, in equal numbers from each quantile as far as they go, the rest from what remains."""
    order = rng.permutation(len(quantile))
    order = order[np.argsort(quantile[order], kind="stable")]
    size = np.bincount(quantile, minlength=quantiles)
    quota = count // quantiles + (np.arange(quantiles) < count % quantiles)
    within = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    taken = within < np.repeat(quota, size)
    rest = rng.permutation(order[~taken])
    return np.concatenate([order[taken], rest[: count - int(taken.sum())]])


def gather(
    rows: TokenRows,
    active: Activations,
    latent: int,
    status: Status,
    windows: tuple[IntArray, IntArray, IntArray, IntArray],
    longest: int,
    available: int,
    quantile_N: npt.NDArray[np.int64],
) -> Contexts:
    """Tokens and activations of windows (row, start, length, target)."""
    row_N, start_N, length_N, target_N = (np.asarray(x, np.int64) for x in windows)
    begin_N = row_N * rows.context + start_N
    offset_L = np.arange(longest)
    used_NL = offset_L < length_N[:, None]
    tokens_NL = np.where(used_NL, rows.ids(np.where(used_NL, begin_N[:, None] + offset_L, 0)), 0)
    low, high = inside(active, begin_N, length_N)
    entry = ranges(low, high - low)
    activation_NL = np.zeros((len(row_N), longest), np.float32)
    which = np.repeat(np.arange(len(row_N)), high - low)
    activation_NL[which, active.token[entry] - begin_N[which]] = active.value[entry]
    return Contexts(latent, status, available, row_N, start_N, length_N, target_N, tokens_NL, activation_NL, quantile_N)


def nothing(latent: int, status: Status, longest: int, available: int = 0) -> Contexts:
    """No contexts."""
    none = np.zeros(0, np.int64)
    return Contexts(
        latent, status, available, none, none, none, none,
        np.zeros((0, longest), np.int64), np.zeros((0, longest), np.float32), none,
    )  # fmt: skip
