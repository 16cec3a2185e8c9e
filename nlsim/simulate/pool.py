"""Asking about a sample: at each read the active latents and some of the inactive ones, which stand for the rest.

All pairs of 131,072 latents and 2,000 windows are 262 million prompts; the active latents and 1,000 inactive ones of
each window are 2 million. A sampled pair carries the number of pairs that it stands for, so that rates at the true
prevalence can be had from it (`metrics.classification`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.lm.prompts import PromptTree

if TYPE_CHECKING:
    from nlsim.latents.codes import RowCodes

Ints = npt.NDArray[np.int64]


class Pool(NamedTuple):
    """P pairs of a latent and a read, by latent and then by read."""

    latent_P: Ints
    read_P: Ints
    weight_P: npt.NDArray[np.float32]
    """How many pairs of its read it stands for: 1 where the latent is active."""

    def of(self, latent: int) -> slice:
        """The pairs of a latent."""
        first, last = np.searchsorted(self.latent_P, [latent, latent + 1])
        return slice(int(first), int(last))


def draw_pool(codes: RowCodes, latents: Ints, inactive: int, seed: int) -> Pool:
    """At each token of `codes` those of `latents` (ascending) that are active, and `inactive` of the others.

    The others are drawn uniformly without repetition, by a generator of (seed, global position): a token's draw does
    not depend on which other tokens are read.
    """
    found, reads, weights = [], [], []
    for read, at in enumerate(codes.token_N.tolist()):
        active = np.intersect1d(codes.latent[codes.indptr[read] : codes.indptr[read + 1]], latents)
        draws = min(len(latents), inactive + len(active))
        drawn = latents[np.random.default_rng([seed, at, 11]).choice(len(latents), draws, replace=False)]
        others = drawn[~np.isin(drawn, active)][:inactive]
        stands = (len(latents) - len(active)) / max(len(others), 1)
        found.append(np.concatenate([active, others]))
        reads.append(np.full(len(found[-1]), read))
        weights.append(np.repeat(np.array([1, stands], np.float32), [len(active), len(others)]))
    latent_P, read_P, weight_P = (np.concatenate(parts) for parts in (found, reads, weights))
    order_P = np.lexsort((read_P, latent_P))
    return Pool(latent_P[order_P].astype(np.int64), read_P[order_P].astype(np.int64), weight_P[order_P])


def only(tree: PromptTree, reads: Ints) -> PromptTree:
    """`tree` with some of its reads (ascending places in their order); branches without any are left out.

    The tree is one root without reads and its leaves, as simulation prompts are.
    """
    first = np.cumsum([0, *(len(branch.reads) for branch in tree.branches)])
    branches = []
    for place, branch in enumerate(tree.branches):
        low, high = np.searchsorted(reads, first[place : place + 2])
        if low < high:
            kept = branch.reads[reads[low:high] - first[place]]
            branches.append(PromptTree(branch.tokens[: kept[-1] + 1], kept))  # nothing after the last read is needed
    return PromptTree(tree.tokens, tree.reads, tuple(branches))
