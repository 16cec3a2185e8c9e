"""From last hidden states to log-probabilities of a few tokens over the full vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOGITS = 1 << 22
"""Most logits held at once (float32: 16 MB)."""


class Head:
    """The output layer of a causal language model, applied in float32 and in chunks."""

    def __init__(self, model: Any) -> None:
        """Take the output embeddings of a transformers causal model and what its family does to logits."""
        output = model.get_output_embeddings()
        self.weight_VD: Tensor = output.weight
        self.bias_V: Tensor | None = output.bias
        config = model.config.get_text_config()
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.factor = float(getattr(config, "logit_scale", None) or 1.0) / float(
            getattr(config, "logits_scaling", None) or 1.0
        )

    @property
    def device(self) -> torch.device:
        """Where hidden states must be."""
        return self.weight_VD.device

    def logits(self, hidden_RD: Tensor) -> Tensor:
        """Float32 logits [R, V]."""
        weight_VD = self.weight_VD
        if weight_VD.dtype == torch.float32:
            logits_RV = torch.mm(hidden_RD.float(), weight_VD.T)
        elif weight_VD.is_cuda:
            logits_RV = torch.mm(hidden_RD.to(weight_VD.dtype), weight_VD.T, out_dtype=torch.float32)
        else:
            logits_RV = torch.cat(
                [torch.mm(hidden_RD.float(), part.float().T) for part in weight_VD.split(8192)], dim=1
            )
        if self.bias_V is not None:
            logits_RV.add_(self.bias_V.float())
        if self.factor != 1.0:
            logits_RV.mul_(self.factor)
        if self.softcap is not None:
            logits_RV.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits_RV

    def choices(self, hidden_RD: Tensor, choices_C: Tensor) -> Tensor:
        """Log-probabilities [R, C] of `choices_C` as the next token after each of the hidden states."""
        step = max(1, LOGITS // len(self.weight_VD))
        parts = []
        for start in range(0, len(hidden_RD), step):
            logits_RV = self.logits(hidden_RD[start : start + step])
            parts.append(logits_RV[:, choices_C] - log_sum_exp(logits_RV)[:, None])
        return torch.cat(parts) if parts else hidden_RD.new_empty((0, len(choices_C)), dtype=torch.float32)


def log_sum_exp(logits_RV: Tensor) -> Tensor:
    """log Σ exp over the last axis, overwriting `logits_RV`.

    Without looking for the maximum first, which costs as much again; rows where that leaves float32's range are redone.
    """
    return torch.logsumexp(logits_RV, dim=-1)
