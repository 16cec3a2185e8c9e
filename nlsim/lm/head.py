"""From last hidden states to log-probabilities of a few tokens over the full vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LOGITS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Logits held at once: on a CPU they should stay in the cache."""

LEAST_ROWS = 64
"""Fewer rows at once make slow matrix products."""

SAFE_LOGIT = 60.0
"""exp of this and of its negative are normal float32 numbers, with room for sums."""


class Head:
    """The output layer of a causal language model, applied in float32 and in chunks.

    Tokens with equal weights have equal logits: where many do (a head trained on few answers only), each distinct row
    is multiplied once and counted as often as it occurs.
    """

    def __init__(self, model: Any) -> None:
        """Take the output embeddings of a transformers causal model and what its family does to logits."""
        output = model.get_output_embeddings()
        self.weight_UD: Tensor = output.weight
        self.bias_U: Tensor | None = output.bias
        self.place_V: Tensor | None = None
        self.count_U: Tensor | None = None
        if self.bias_U is None:
            self._join_equal_rows()
        config = model.config.get_text_config()
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        multiplier, divisor = (getattr(config, name, None) or 1.0 for name in ("logit_scale", "logits_scaling"))
        self.factor = float(multiplier) / float(divisor)

    def _join_equal_rows(self) -> None:
        sums_V = self.weight_UD.float().sum(1) if self.weight_UD.is_cuda else self.weight_UD.sum(1, dtype=torch.float32)
        if 2 * len(sums_V.unique()) > len(sums_V):
            return
        rows_UD, place_V, count_U = torch.unique(self.weight_UD, dim=0, return_inverse=True, return_counts=True)
        if 2 * len(rows_UD) <= len(place_V):
            self.weight_UD, self.place_V, self.count_U = rows_UD, place_V, count_U.float()

    @property
    def device(self) -> torch.device:
        """Where hidden states must be."""
        return self.weight_UD.device

    def choices(self, hidden_RD: Tensor, choices_C: Tensor) -> Tensor:
        """Log-probabilities [R, C] of `choices_C` as the next token after each of the hidden states."""
        step = max(LEAST_ROWS, LOGITS[self.device.type] // len(self.weight_UD))
        columns_C = choices_C if self.place_V is None else self.place_V[choices_C]
        parts = []
        for start in range(0, len(hidden_RD), step):
            part_RD = hidden_RD[start : start + step]
            logits_RU = self._logits(part_RD)
            chosen_RC = logits_RU[:, columns_C]
            total_R = log_sum_exp(logits_RU, chosen_RC.amax(-1), self.count_U)
            if not total_R.isfinite().all():  # the choices lie too far below some other token
                exact_RU = self._logits(part_RD)
                total_R = torch.logsumexp(exact_RU if self.count_U is None else exact_RU + self.count_U.log(), dim=-1)
            parts.append(chosen_RC - total_R[:, None])
        return torch.cat(parts) if parts else hidden_RD.new_empty((0, len(choices_C)), dtype=torch.float32)

    def _logits(self, hidden_RD: Tensor) -> Tensor:
        """Float32 logits [R, U] of the distinct rows."""
        weight_UD = self.weight_UD
        if weight_UD.dtype == torch.float32:
            logits_RU = torch.mm(hidden_RD.float(), weight_UD.T)
        elif weight_UD.is_cuda:
            logits_RU = torch.mm(hidden_RD.to(weight_UD.dtype), weight_UD.T, out_dtype=torch.float32)
        else:
            logits_RU = torch.cat(
                [torch.mm(hidden_RD.float(), part.float().T) for part in weight_UD.split(8192)], dim=1
            )
        if self.bias_U is not None:
            logits_RU.add_(self.bias_U.float())
        if self.factor != 1.0:
            logits_RU.mul_(self.factor)
        if self.softcap is not None:
            logits_RU.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits_RU


def log_sum_exp(logits_RU: Tensor, near_R: Tensor, count_U: Tensor | None = None) -> Tensor:
    """log Σ count · exp over the last axis, overwriting `logits_RU`; infinite where float32 cannot hold the sum.

    Instead of the maximum, which costs another pass over all logits, some logit of each row (`near_R`) is subtracted,
    and that only where logits are so far from 0 that it matters.
    """
    near = float(near_R.abs().max()) < SAFE_LOGIT
    powers_RU = logits_RU.exp_() if near else logits_RU.sub_(near_R[:, None]).exp_()
    sums_R = powers_RU.sum(-1) if count_U is None else powers_RU @ count_U
    return sums_R.log_() if near else sums_R.log_().add_(near_R)
