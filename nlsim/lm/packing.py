"""Cutting tries of prompts into micro-batches: which rows a forward pass has, and which keys each row attends.

A *piece* is a node of a trie (or a part of a long one). Pieces come in depth-first order, so the pieces above the
current one form a stack, the *path*. A micro-batch is a run of consecutive pieces laid end to end without padding; its
rows attend

- themselves and earlier rows of their own piece (causal),
- pieces above them in the same micro-batch (all rows of a piece above: no mask),
- what earlier micro-batches computed of the path, whose keys and values are kept (a prefix of the path: no mask).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from nlsim.lm.prompts import IntArray, PromptTree, common_prefix

MIN_STEM = 8
"""Tries whose roots agree in fewer tokens are not worth joining."""

NOTHING: IntArray = np.empty(0, dtype=np.int64)


class Piece(NamedTuple):
    """A run of tokens with the same ancestors."""

    tokens: IntArray
    reads: IntArray
    """Offsets into `tokens`."""
    depth: int
    """Position of the first token."""
    level: int
    """Number of pieces above it."""
    keep: bool
    """Whether pieces below it follow."""


def pieces(tree: PromptTree, limit: int, depth: int = 0, level: int = 0) -> Iterator[Piece]:
    """The pieces of a trie that hangs below `level` pieces holding `depth` tokens; none longer than `limit` tokens."""
    stack = [(tree, depth, level)]
    while stack:
        node, depth, level = stack.pop()
        n = len(node.tokens)
        if n <= limit:
            if n:
                yield Piece(node.tokens, node.reads, depth, level, bool(node.branches))
                level += 1
        else:
            for start in range(0, n, limit):
                inside = node.reads[(node.reads >= start) & (node.reads < start + limit)] - start
                part = node.tokens[start : start + limit]
                yield Piece(part, inside, depth + start, level, bool(node.branches) or start + limit < n)
                level += 1
        stack.extend((branch, depth + n, level) for branch in reversed(node.branches))


def stream(trees: Iterable[PromptTree], limit: int) -> Iterator[list[Piece]]:
    """For every trie its pieces; what the roots of consecutive tries share becomes a piece above them, made once."""
    stem = NOTHING
    levels = 0
    for tree, following in _pairs(trees):
        lead = _unread(tree)
        made: list[Piece] = []
        if not len(stem) or common_prefix(stem, lead) < len(stem):
            shared = common_prefix(lead, _unread(following)) if following is not None else 0
            stem = lead[:shared] if shared >= MIN_STEM else NOTHING
            above = list(pieces(PromptTree(stem, NOTHING, (tree,)), limit))
            levels = -(-len(stem) // limit)
            made = above[:levels]
        n = len(stem)
        rest = tree if not n else PromptTree(tree.tokens[n:], tree.reads - n, tree.branches)
        yield [*made, *pieces(rest, limit, n, levels)]


def _unread(tree: PromptTree) -> IntArray:
    """The tokens of a root before the first that is read."""
    return tree.tokens[: tree.reads[0]] if len(tree.reads) else tree.tokens


def _pairs(trees: Iterable[PromptTree]) -> Iterator[tuple[PromptTree, PromptTree | None]]:
    """Each trie with the one after it."""
    previous: PromptTree | None = None
    for tree in chain(trees, [None]):
        if previous is not None:
            yield previous, tree
        previous = tree


def batches(made: Iterable[Piece], tokens: Callable[[], int]) -> Iterator[list[Piece]]:
    """Consecutive pieces, of at most `tokens()` tokens together (or one that is longer)."""
    batch: list[Piece] = []
    size = 0
    for piece in made:
        if batch and size + len(piece.tokens) > tokens():
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece.tokens)
    if batch:
        yield batch


def halves(batch: list[Piece]) -> tuple[list[Piece], list[Piece]]:
    """A micro-batch as two smaller ones, to be run one after the other; a piece that is alone is cut in the middle.

    The second part of a cut piece is one level deeper, until `Path.join` makes one level of the two.
    """
    if len(batch) > 1:
        return batch[: len(batch) // 2], batch[len(batch) // 2 :]
    (whole,) = batch
    middle = len(whole.tokens) // 2
    first, second = whole.reads[whole.reads < middle], whole.reads[whole.reads >= middle] - middle
    return (
        [Piece(whole.tokens[:middle], first, whole.depth, whole.level, keep=True)],
        [Piece(whole.tokens[middle:], second, whole.depth + middle, whole.level + 1, whole.keep)],
    )


class Span(NamedTuple):
    """Rows [q0, q1) attend keys [k0, k1), all of them."""

    q0: int
    q1: int
    k0: int
    k1: int


class Plan(NamedTuple):
    """The rows of one micro-batch and what they attend."""

    tokens_T: IntArray
    positions_T: IntArray
    starts_P: IntArray
    """First row of every piece."""
    lengths_P: IntArray
    reads_R: IntArray
    """Rows whose next-token distribution is wanted."""
    path: tuple[Span, ...]
    """Keys of the kept path."""
    inside: tuple[Span, ...]
    """Keys among the rows."""
    keep: tuple[tuple[int, int], ...]
    """Row ranges that join the path afterwards, in order, from position `keep_from`."""
    keep_from: int
    ends: tuple[int, ...]
    """Where each level of the path ends afterwards."""


def plan(batch: Sequence[Piece], ends: Sequence[int]) -> Plan:
    """Lay `batch` out. `ends` are the positions at which the levels of the kept path end."""
    lengths = np.fromiter((len(piece.tokens) for piece in batch), dtype=np.int64, count=len(batch))
    starts = np.cumsum(lengths) - lengths
    alive = len(ends)
    path: list[Span] = []
    inside: list[Span] = []
    since = 0  # first row that attends the current `alive` levels
    opened: list[tuple[int, int, int]] = []  # level, first row, end row of pieces with something below them
    for piece, start, length in zip(batch, starts.tolist(), lengths.tolist(), strict=True):
        if piece.level < alive:
            if alive and start > since:
                path.append(Span(since, start, 0, ends[alive - 1]))
            alive, since = piece.level, start
        while opened and opened[-1][0] >= piece.level:
            _, k0, k1 = opened.pop()
            if start > k1:
                inside.append(Span(k1, start, k0, k1))
        if piece.keep:
            opened.append((piece.level, start, start + length))
    rows = int(lengths.sum())
    if alive and rows > since:
        path.append(Span(since, rows, 0, ends[alive - 1]))
    inside.extend(Span(k1, rows, k0, k1) for _, k0, k1 in opened if rows > k1)
    kept = tuple((k0, k1) for _, k0, k1 in opened)
    keep_from = ends[alive - 1] if alive else 0
    grown = [*ends[:alive]]
    for k0, k1 in kept:
        grown.append((grown[-1] if grown else 0) + k1 - k0)
    depths = np.fromiter((piece.depth for piece in batch), dtype=np.int64, count=len(batch))
    return Plan(
        tokens_T=np.concatenate([piece.tokens for piece in batch]),
        positions_T=np.arange(rows) + np.repeat(depths - starts, lengths),
        starts_P=starts,
        lengths_P=lengths,
        reads_R=np.concatenate([piece.reads + start for piece, start in zip(batch, starts, strict=True)]),
        path=tuple(path),
        inside=tuple(inside),
        keep=kept,
        keep_from=keep_from,
        ends=tuple(grown),
    )
