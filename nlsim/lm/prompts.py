"""Prompts as token tries: what prompts share is stated once, so that an engine can compute it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.errors import UsageError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PromptTree:
    """A node of a trie of prompts. Depth-first order (a node's own reads, then its branches) is the order of results.

    Branches may be shared: the same leaf objects under many prefixes are prepared once.
    """

    tokens: IntArray
    """This node's tokens, which follow its ancestors'."""
    reads: IntArray
    """Ascending offsets into `tokens`: the next-token distribution *after* each of these tokens is wanted."""
    branches: tuple[PromptTree, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", np.ascontiguousarray(self.tokens, dtype=np.int64))
        object.__setattr__(self, "reads", np.ascontiguousarray(self.reads, dtype=np.int64))
        if len(self.reads) and (self.reads.min() < 0 or self.reads.max() >= len(self.tokens)):
            raise ValueError(f"reads must lie inside the node's {len(self.tokens)} tokens")
        if (np.diff(self.reads) <= 0).any():
            raise ValueError("reads must ascend")


def leaf(tokens: Sequence[int] | IntArray, reads: Sequence[int] | IntArray | None = None) -> PromptTree:
    """A node without branches, read after its last token or after the tokens at `reads`."""
    ids = np.asarray(tokens, dtype=np.int64)
    return PromptTree(ids, np.asarray([len(ids) - 1] if reads is None else reads, dtype=np.int64))


class Node(NamedTuple):
    """A node met on the way through a trie."""

    tree: PromptTree
    depth: int
    """Tokens before it: the position of its first token."""
    path: tuple[PromptTree, ...]
    """Its ancestors, root first."""


def walk(tree: PromptTree) -> Iterator[Node]:
    """The nodes of a trie in depth-first order, each before its branches."""
    stack = [Node(tree, 0, ())]
    while stack:
        node = stack.pop()
        yield node
        depth = node.depth + len(node.tree.tokens)
        path = (*node.path, node.tree)
        stack.extend(Node(branch, depth, path) for branch in reversed(node.tree.branches))


def flatten(tree: PromptTree) -> Iterator[tuple[IntArray, IntArray]]:
    """For every node with reads, in order of results: its whole prompt, and the offsets in that to read at."""
    for node in walk(tree):
        if len(node.tree.reads):
            yield (
                np.concatenate([*(above.tokens for above in node.path), node.tree.tokens]),
                node.tree.reads + node.depth,
            )


def common_prefix(first: IntArray, second: IntArray) -> int:
    """Length of the longest common prefix."""
    n = min(len(first), len(second))
    differ = np.flatnonzero(first[:n] != second[:n])
    return int(differ[0]) if len(differ) else n


def from_prompts(prompts: Sequence[IntArray]) -> PromptTree:
    """One root holding what all `prompts` share, and a leaf per prompt, in the given order, read after its last token.

    A leaf keeps at least one token, so that it has something to be read after. Prompts must not be empty.
    """
    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    shared = min(shared, *(len(prompt) - 1 for prompt in prompts)) if len(prompts) > 1 else len(prompts[0]) - 1
    nothing = np.empty(0, dtype=np.int64)
    return PromptTree(prompts[0][:shared], nothing, tuple(leaf(prompt[shared:]) for prompt in prompts))


class Grid(NamedTuple):
    """Every prefix followed by every suffix, tokenized so that each pair equals the pair's text tokenized whole."""

    prefixes: tuple[IntArray, ...]
    suffixes: tuple[IntArray, ...]

    def trees(self, leaves: tuple[PromptTree, ...] | None = None) -> Iterator[PromptTree]:
        """One trie per prefix, all with the same leaves: `leaves`, or the suffixes read after their last token."""
        branches = leaves if leaves is not None else tuple(leaf(suffix) for suffix in self.suffixes)
        nothing = np.empty(0, dtype=np.int64)
        return (PromptTree(prefix, nothing, branches) for prefix in self.prefixes)


def grid(
    encode: Callable[[str], IntArray], prefixes: Sequence[str], suffixes: Sequence[str], checks: int = 16, seed: int = 0
) -> Grid:
    """Tokenize `prefixes` × `suffixes` with as many calls of `encode` as there are of both, not their product.

    A tokenizer may merge across the seam, so the seam is found, not assumed: whole texts are tokenized, and the split
    is put where all of the first prefix's prompts still agree. `checks` random pairs are compared with their text.
    Raises UsageError if the tokens of a prompt depend on more than this allows.
    """
    first = [encode(prefixes[0] + suffix) for suffix in suffixes]
    stem = min(common_prefix(first[0], ids) for ids in first)
    stem = (
        min(stem, *(len(ids) - 1 for ids in first))
        if len(first) > 1
        else _seam(encode, prefixes, suffixes[0], first[0])
    )
    tails = tuple(ids[stem:] for ids in first)
    heads = []
    for prefix in prefixes:
        ids = encode(prefix + suffixes[0])
        cut = len(ids) - len(tails[0])
        if cut < 0 or not np.array_equal(ids[cut:], tails[0]):
            raise _seam_error()
        heads.append(ids[:cut])
    rng = np.random.default_rng(seed)
    for i, j in zip(rng.integers(len(prefixes), size=checks), rng.integers(len(suffixes), size=checks), strict=True):
        if not np.array_equal(np.concatenate([heads[i], tails[j]]), encode(prefixes[i] + suffixes[j])):
            raise _seam_error()
    return Grid(tuple(heads), tails)


def _seam(encode: Callable[[str], IntArray], prefixes: Sequence[str], suffix: str, first: IntArray) -> int:
    """Where to split when there is one suffix only: what all prefixes' prompts end with stays together."""
    others = [encode(prefix + suffix) for prefix in prefixes[1:]]
    shared = min((common_prefix(first[::-1], ids[::-1]) for ids in others), default=1)
    return len(first) - max(1, min(shared, len(encode(suffix))))


def _seam_error() -> UsageError:
    return UsageError(
        "the tokenizer merges the end of an explanation with the start of a text",
        "put a line break or a special token between them in the prompt",
    )
