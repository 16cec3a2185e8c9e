"""The attention of one forward pass over a micro-batch of a trie, and the keys and values kept between passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nlsim.lm import attention
from nlsim.lm.attention import Form, Merged
from nlsim.lm.packing import Plan, Span
from nlsim.lm.prompts import IntArray

Kernel = Callable[[Tensor, Tensor, Tensor, Form, bool, Tensor | None], tuple[Tensor, Tensor]]

PADDING = 1.25
"""Pieces whose lengths differ by no more than this factor are padded to a common length inside their own attention."""


class Path:
    """Keys and values, per layer, of the pieces above the next micro-batch, by position in one growing buffer."""

    def __init__(self) -> None:
        self.ends: tuple[int, ...] = ()
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._staged: list[tuple[int, Tensor, Tensor]] = []

    def keys_values(self, layer: int, stop: int) -> tuple[Tensor, Tensor]:
        """Views [stop, key heads, d] of the first `stop` positions."""
        k_SKd, v_SKd = self._kept[layer]
        return k_SKd[:stop], v_SKd[:stop]

    def stage(self, layer: int, k_SKd: Tensor, v_SKd: Tensor) -> None:
        """Hold what `commit` will keep; a pass that fails midway changes nothing."""
        self._staged.append((layer, k_SKd, v_SKd))

    def commit(self, plan: Plan) -> None:
        """The pass succeeded: cut the path where it was left and append what was staged."""
        for layer, k_SKd, v_SKd in self._staged:  # where memory runs out here, nothing of the old path is lost
            self._reserve(layer, plan.keep_from + len(k_SKd), k_SKd, v_SKd)
        for layer, k_SKd, v_SKd in self._staged:
            stop = plan.keep_from + len(k_SKd)
            for kept, new in zip(self._kept[layer], (k_SKd, v_SKd), strict=True):
                kept[plan.keep_from : stop] = new
        self._staged.clear()
        self.ends = plan.ends

    def join(self, level: int) -> None:
        """Make one level of `level` and the one below it, if there is one."""
        self.ends = (*self.ends[:level], *self.ends[level + 1 :])

    def _reserve(self, layer: int, rows: int, *like: Tensor) -> None:
        """Make a layer's buffers hold at least `rows` positions."""
        kept = self._kept.get(layer)
        if kept is not None and len(kept[0]) >= rows:
            return
        k_SKd, v_SKd = (new.new_empty((2 * rows, *new.shape[1:])) for new in like)
        if kept is not None:
            k_SKd[: len(kept[0])], v_SKd[: len(kept[1])] = kept
        self._kept[layer] = k_SKd, v_SKd

    def drop(self) -> None:
        """Forget what a failed pass staged."""
        self._staged.clear()


class Group(NamedTuple):
    """Pieces whose own attention is one call: padded to N × Q query rows and N × S key rows."""

    queries_NQ: Tensor
    keys_NS: Tensor
    mask_NQS: Tensor | None
    """None: causal."""
    real_G: Tensor
    """Which of the N·Q padded query rows are real."""
    rows_G: Tensor
    """Their rows."""
    run: int | None
    """First row, where the pieces are adjacent and equally long: nothing to gather."""

    def to(self, device: torch.device) -> Group:
        """The same on `device`."""
        mask = None if self.mask_NQS is None else self.mask_NQS.to(device)
        queries, keys, real, rows = (x.to(device) for x in (self.queries_NQ, self.keys_NS, self.real_G, self.rows_G))
        return Group(queries, keys, mask, real, rows, self.run)


class TriePass:
    """Answers the attention calls of one forward pass, layer by layer."""

    def __init__(self, plan: Plan, path: Path) -> None:
        self.plan = plan
        self.path = path
        self.rows = len(plan.tokens_T)
        self._lengths = plan.lengths_P.tolist()
        self._groups: dict[tuple[torch.device, bool], tuple[Group, ...]] = {}
        self._bounds: dict[torch.device, Tensor] = {}
        self._reads: dict[torch.device, Tensor] = {}

    def reads(self, device: torch.device) -> Tensor:
        """The rows to be read, on `device`."""
        if device not in self._reads:
            self._reads[device] = torch.from_numpy(self.plan.reads_R).to(device)
        return self._reads[device]

    def attend(
        self, layer: int, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, form: Form, only_reads: bool = False
    ) -> Tensor:
        """Attention output [rows, heads, d] of all rows, or with `only_reads` of the read rows: those of `q`."""
        plan = self.plan
        own = self._own(q_THd, k_TKd, v_TKd, form, only_reads)
        for spans, on_path in ((plan.path, True), (plan.inside, False)):
            for span in spans:
                q0, q1 = np.searchsorted(plan.reads_R, (span.q0, span.q1)).tolist() if only_reads else span[:2]
                if q1 == q0:
                    continue
                if on_path:
                    keys, values = self.path.keys_values(layer, span.k1)
                else:
                    keys, values = k_TKd[span.k0 : span.k1], v_TKd[span.k0 : span.k1]
                mask = self._beyond_window(span, on_path, form, only_reads, q_THd.device)
                own.add(q0, q1, *_whole(q_THd[q0:q1], keys, values, form, mask))
        return own.out_THd.to(q_THd.dtype)

    def keep(self, layer: int, k_TKd: Tensor, v_TKd: Tensor) -> None:
        """Stage the keys and values that later passes attend."""
        if self.plan.keep:
            kept = [(k_TKd[a:b], v_TKd[a:b]) for a, b in self.plan.keep]
            self.path.stage(layer, torch.cat([k for k, _ in kept]), torch.cat([v for _, v in kept]))

    def _own(self, q_THd: Tensor, k_TKd: Tensor, v_TKd: Tensor, form: Form, only_reads: bool) -> Merged:
        """Every piece attending itself, causally."""
        limited = form.window is not None and max(self._lengths) > form.window
        if _packed_kernel(q_THd, form) and not limited and not only_reads:
            bounds = self._cumulative(q_THd.device)
            return Merged(*attention.varlen(q_THd, k_TKd, v_TKd, form, True, bounds, max(self._lengths)))
        merged = Merged(
            torch.empty(q_THd.shape, dtype=torch.float32, device=q_THd.device),
            torch.empty(q_THd.shape[:2], dtype=torch.float32, device=q_THd.device),
        )
        for group in self._grouped(q_THd.device, only_reads):
            if group.run is not None and not limited:
                n, s = group.queries_NQ.shape
                rows = slice(group.run, group.run + n * s)
                q, k, v = (x[rows].unflatten(0, (n, s)).transpose(1, 2) for x in (q_THd, k_TKd, v_TKd))
                out, lse = _kernel(form, q_THd)(q, k, v, form, True, None)
                merged.out_THd[rows] = out.transpose(1, 2).flatten(0, 1)
                merged.lse_TH[rows] = lse.transpose(1, 2).flatten(0, 1)
                continue
            mask = group.mask_NQS
            if limited and form.window is not None:
                near = torch.arange(group.keys_NS.shape[1], device=q_THd.device)
                offsets = near if mask is None else mask.sum(-1, keepdim=True) - 1
                band = (offsets[:, None] if mask is None else offsets) - near < form.window
                mask = band.tril()[None] if mask is None else mask & band
            q = q_THd[group.queries_NQ].transpose(1, 2)
            k, v = (x[group.keys_NS].transpose(1, 2) for x in (k_TKd, v_TKd))
            out, lse = _kernel(form, q_THd)(q, k, v, form, mask is None, mask)
            merged.out_THd[group.rows_G] = out.transpose(1, 2).flatten(0, 1)[group.real_G].float()
            merged.lse_TH[group.rows_G] = lse.transpose(1, 2).flatten(0, 1)[group.real_G].float()
        return merged

    def _cumulative(self, device: torch.device) -> Tensor:
        if device not in self._bounds:
            bounds = np.append(self.plan.starts_P, self.rows).astype(np.int32)
            self._bounds[device] = torch.from_numpy(bounds).to(device)
        return self._bounds[device]

    def _grouped(self, device: torch.device, only_reads: bool) -> tuple[Group, ...]:
        key = (device, only_reads)
        if key not in self._groups:
            made = read_groups(self.plan) if only_reads else causal_groups(self.plan)
            self._groups[key] = tuple(group.to(device) for group in made)
        return self._groups[key]

    def _beyond_window(
        self, span: Span, on_path: bool, form: Form, only_reads: bool, device: torch.device
    ) -> Tensor | None:
        """Mask [1, Q, S] of the keys within the sliding window, or None where all are."""
        if form.window is None:
            return None
        positions = self.plan.positions_T
        rows = np.arange(span.q0, span.q1)
        if only_reads:
            rows = rows[np.isin(rows, self.plan.reads_R)]
        keys = np.arange(span.k0, span.k1) if on_path else positions[span.k0 : span.k1]
        if positions[rows].max() - keys.min() < form.window:
            return None
        near = positions[rows][:, None] - keys[None, :] < form.window
        return torch.from_numpy(near)[None].to(device)


def _packed_kernel(q_THd: Tensor, form: Form) -> bool:
    return q_THd.is_cuda and q_THd.dtype in (torch.float16, torch.bfloat16) and form.softcap is None


def _kernel(form: Form, q_THd: Tensor) -> Kernel:
    return attention.flash if q_THd.device.type == "cpu" and form.softcap is None else attention.plain


def _whole(q_THd: Tensor, k_SKd: Tensor, v_SKd: Tensor, form: Form, mask_1QS: Tensor | None) -> tuple[Tensor, Tensor]:
    """All rows attending all keys (but those masked): output [T, H, d] and log-sum-exp [T, H]."""
    if _packed_kernel(q_THd, form) and mask_1QS is None:
        return attention.varlen(q_THd, k_SKd, v_SKd, form, False, None, 0)
    kernel = attention.plain if mask_1QS is not None else _kernel(form, q_THd)
    q, k, v = (x.transpose(0, 1)[None] for x in (q_THd, k_SKd, v_SKd))
    out, lse = kernel(q, k, v, form, False, mask_1QS)
    return out[0].transpose(0, 1), lse[0].transpose(0, 1)


def _batches_of_similar(lengths: IntArray) -> Iterator[IntArray]:
    """Indices of pieces of similar length together."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or lengths[order[stop]] > PADDING * lengths[order[start]]:
            yield np.sort(order[start:stop])
            start = stop


def causal_groups(plan: Plan) -> Iterator[Group]:
    """Groups in which every row of a piece is a query."""
    for members in _batches_of_similar(plan.lengths_P):
        starts, lengths = plan.starts_P[members], plan.lengths_P[members]
        width = int(lengths.max())
        offsets = np.arange(width)
        real = offsets < lengths[:, None]
        index = np.where(real, starts[:, None] + offsets, starts[:, None])
        adjacent = bool((np.diff(starts) == width).all() and (lengths == width).all())
        yield Group(
            torch.from_numpy(index),
            torch.from_numpy(index),
            None,
            torch.from_numpy(np.flatnonzero(real)),
            torch.from_numpy(index[real]),
            int(starts[0]) if adjacent else None,
        )


def read_groups(plan: Plan) -> Iterator[Group]:
    """Groups in which only the rows to be read are queries, numbered by their place among all reads."""
    piece_R = np.searchsorted(plan.starts_P, plan.reads_R, side="right") - 1
    counts_P = np.bincount(piece_R, minlength=len(plan.starts_P))
    firsts_P = np.cumsum(counts_P) - counts_P
    read_P = np.flatnonzero(counts_P)
    for chosen in _batches_of_similar(plan.lengths_P[read_P]):
        members = read_P[chosen]
        starts, lengths, counts, firsts = (x[members] for x in (plan.starts_P, plan.lengths_P, counts_P, firsts_P))
        keys = np.arange(int(lengths.max()))
        index = np.where(keys < lengths[:, None], starts[:, None] + keys, starts[:, None])
        slots = np.arange(int(counts.max()))
        real = slots < counts[:, None]
        queries = np.where(real, firsts[:, None] + slots, firsts[:, None])
        mask = keys <= (plan.reads_R[queries] - starts[:, None])[..., None]
        yield Group(
            torch.from_numpy(queries),
            torch.from_numpy(index),
            torch.from_numpy(mask),
            torch.from_numpy(np.flatnonzero(real)),
            torch.from_numpy(queries[real]),
            None,
        )
