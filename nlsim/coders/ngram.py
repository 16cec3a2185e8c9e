"""An n-gram model as a baseline for small language models: interpolated Kneser-Ney (Kneser & Ney 1995)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


class Order(NamedTuple):
    """Counts of one order n. An n-gram is one number: its tokens as digits in base V, the last token lowest."""

    gram_G: Int
    """Sorted."""
    count_G: Int
    """Occurrences at the highest order; below, different tokens seen before the gram."""
    history_H: Int
    """The grams' first n - 1 tokens, sorted."""
    total_H: Int
    """Sum of the counts of a history's grams."""
    kinds_H: Int
    """Number of different grams of a history."""
    discount: float


class KneserNey:
    """P_n(w|h) = max(c(hw) - d, 0) / c(h·) + d · kinds(h) / c(h·) · P_{n-1}(w|h'), down to the uniform distribution.

    Each order's discount is d = n1 / (n1 + 2 n2) (Ney, Essen & Kneser 1994). Rows begin with BOS, and what would reach
    back before a row's start counts as BOS.
    """

    def __init__(
        self, tokens_RT: NDArray[np.int32], length_R: NDArray[np.int32], vocabulary: int, order: int = 5
    ) -> None:
        """Raises ValueError when an n-gram of that order does not fit into 63 bits."""
        if vocabulary**order >= 1 << 63:
            raise ValueError(f"{order}-grams of {vocabulary} tokens do not fit into 63 bits")
        self.vocabulary, self.order = vocabulary, order
        gram_G, count_G = np.unique(self._grams(tokens_RT, length_R), return_counts=True)
        self.orders = [_order(gram_G, count_G.astype(np.int64), vocabulary)]
        for lower in range(order - 1, 0, -1):
            gram_G, count_G = np.unique(self.orders[0].gram_G % vocabulary**lower, return_counts=True)
            self.orders.insert(0, _order(gram_G, count_G.astype(np.int64), vocabulary))

    def losses(self, tokens_RT: NDArray[np.int32], length_R: NDArray[np.int32]) -> NDArray[np.float64]:
        """-ln P of every token but BOS, row after row, in nats."""
        gram_N = self._grams(tokens_RT, length_R)
        chance_N = np.full(len(gram_N), 1 / self.vocabulary)
        for n, level in enumerate(self.orders, 1):
            part_N = gram_N % self.vocabulary**n
            count_N = _looked_up(part_N, level.gram_G, level.count_G)
            total_N = _looked_up(part_N // self.vocabulary, level.history_H, level.total_H)
            kinds_N = _looked_up(part_N // self.vocabulary, level.history_H, level.kinds_H)
            seen_N = np.maximum(total_N, 1)
            kept_N = np.maximum(count_N - level.discount, 0) / seen_N
            chance_N = np.where(total_N > 0, kept_N + level.discount * kinds_N / seen_N * chance_N, chance_N)
        return -np.log(chance_N)

    def _grams(self, tokens_RT: NDArray[np.int32], length_R: NDArray[np.int32]) -> Int:
        """The gram of the highest order that ends at each token but BOS, row after row."""
        rows, context = tokens_RT.shape
        pad = np.repeat(tokens_RT[:, :1], self.order - 2, axis=1)
        padded = np.concatenate([pad, tokens_RT], axis=1).astype(np.int64)
        gram_RT = np.zeros((rows, context - 1), np.int64)
        for back in range(self.order):
            gram_RT = gram_RT * self.vocabulary + padded[:, back : back + context - 1]
        used_RT = np.arange(1, context) < length_R[:, None]
        return gram_RT[used_RT]


def _order(gram_G: Int, count_G: Int, vocabulary: int) -> Order:
    history_H, first_H = np.unique(gram_G // vocabulary, return_index=True)
    once, twice = int((count_G == 1).sum()), int((count_G == 2).sum())
    return Order(
        gram_G=gram_G,
        count_G=count_G,
        history_H=history_H,
        total_H=np.add.reduceat(count_G, first_H),
        kinds_H=np.diff(np.append(first_H, len(gram_G))),
        discount=once / (once + 2 * twice) if once else 0.0,
    )


def _looked_up(wanted_N: Int, sorted_K: Int, value_K: Int) -> Int:
    """The value at each wanted key; 0 where there is none."""
    place_N = np.searchsorted(sorted_K, wanted_N).clip(max=len(sorted_K) - 1)
    return np.where(sorted_K[place_N] == wanted_N, value_K[place_N], 0)
