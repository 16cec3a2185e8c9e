"""Attention of packed rows over several sets of keys, merged by log-sum-exp.

Attention over a union of key sets is the average of the attentions over each set, weighted by the softmax of their
log-sum-exps (Juravsky et al. 2024, *Hydragen*, arXiv 2402.05099, §3.1). Merging is done in float32.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

SCORES = 1 << 24
"""Most attention scores that the plain kernel holds at once."""


class Form(NamedTuple):
    """How scores are made: what a layer says about its attention."""

    scale: float
    softcap: float | None = None
    """Scores s become softcap · tanh(s / softcap) (Gemma 2)."""
    window: int | None = None
    """A row attends a key fewer than this many positions back."""


def flash(
    q_NHQd: Tensor, k_NKSd: Tensor, v_NKSd: Tensor, form: Form, causal: bool, mask_NQS: Tensor | None
) -> tuple[Tensor, Tensor]:
    """torch's fused CPU kernel: output [N, H, Q, d] and natural log-sum-exp [N, H, Q]; true in `mask_NQS`: allowed."""
    bias = None
    if mask_NQS is not None:
        bias = torch.zeros(mask_NQS.shape, dtype=q_NHQd.dtype).masked_fill_(~mask_NQS, -math.inf)[:, None]
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q_NHQd, k_NKSd, v_NKSd, 0.0, causal, attn_mask=bias, scale=form.scale
    )
    return out, lse


def plain(
    q_NHQd: Tensor, k_NKSd: Tensor, v_NKSd: Tensor, form: Form, causal: bool, mask_NQS: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The definition, in float32, on any device, in chunks of rows. Query heads share key heads without expansion.

    A row that may attend nothing gets output 0 and log-sum-exp −inf.
    """
    n, heads, rows, _ = q_NHQd.shape
    groups, keys = k_NKSd.shape[1], k_NKSd.shape[2]
    q_NKGQd = q_NHQd.unflatten(1, (groups, heads // groups)).float()
    k_NKdS, v_NKSd = k_NKSd.float().transpose(-1, -2)[:, :, None], v_NKSd.float()[:, :, None]
    outs, lses = [], []
    step = max(1, SCORES // max(1, n * heads * keys))
    for start in range(0, rows, step):
        scores = torch.matmul(q_NKGQd[..., start : start + step, :], k_NKdS).mul_(form.scale)
        if form.softcap is not None:
            scores = scores.div_(form.softcap).tanh_().mul_(form.softcap)
        if causal:
            ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(start + 1)
            scores.masked_fill_(ahead, -math.inf)
        if mask_NQS is not None:
            scores.masked_fill_(~mask_NQS[:, None, None, start : start + step], -math.inf)
        lse = scores.logsumexp(-1)
        weights = scores.sub_(lse.clamp_min(torch.finfo(torch.float32).min)[..., None]).exp_()
        outs.append(torch.matmul(weights, v_NKSd))
        lses.append(lse)
    return torch.cat(outs, dim=-2).flatten(1, 2), torch.cat(lses, dim=-1).flatten(1, 2)


def varlen(
    q_THd: Tensor, k_SKd: Tensor, v_SKd: Tensor, form: Form, causal: bool, bounds: Tensor | None, longest: int
) -> tuple[Tensor, Tensor]:
    """torch's packed CUDA kernel on half precision: output [T, H, d] and log-sum-exp [T, H].

    With `bounds` (int32, cumulative lengths) rows attend their own sequence; without, all rows attend all keys.
    """
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    rows, keys = q_THd.shape[0], k_SKd.shape[0]
    if bounds is None:
        q_bounds = torch.tensor([0, rows], dtype=torch.int32, device=q_THd.device)
        k_bounds = torch.tensor([0, keys], dtype=torch.int32, device=q_THd.device)
        most_q, most_k = rows, keys
    else:
        q_bounds = k_bounds = bounds
        most_q = most_k = longest
    out, lse_HT = varlen_attn(
        q_THd, k_SKd, v_SKd, q_bounds, k_bounds, most_q, most_k,
        return_aux=AuxRequest(lse=True), scale=form.scale, window_size=(-1, 0) if causal else (-1, -1),
        enable_gqa=q_THd.shape[1] != k_SKd.shape[1],
    )  # fmt: skip
    return out, lse_HT.transpose(0, 1)


class Merged:
    """Running attention output of rows over the key sets added so far."""

    def __init__(self, out_THd: Tensor, lse_TH: Tensor) -> None:
        """Start from a first set. `out_THd` is changed in place when it is float32."""
        self.out_THd = out_THd.float()
        self.lse_TH = lse_TH.float()

    def add(self, q0: int, q1: int, out_QHd: Tensor, lse_QH: Tensor) -> None:
        """Rows [q0, q1) also attended another set of keys, with this output and log-sum-exp."""
        before = self.lse_TH[q0:q1]
        weight = torch.sigmoid(lse_QH.float() - before)
        self.out_THd[q0:q1].lerp_(out_QHd.float(), weight[..., None])
        self.lse_TH[q0:q1] = torch.logaddexp(before, lse_QH.float())
