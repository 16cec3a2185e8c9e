"""Patched runs of the subject: one clean prefix per batch of rows, from which every condition carries on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nlsim.reconstruct.conditions import Condition

if TYPE_CHECKING:
    from nlsim.coders.coder import Coder, Codes
    from nlsim.reconstruct.config import Clip
    from nlsim.subject.model import Subject

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Some rows and the positions in them that are patched and judged: N of them, row by row, ascending."""

    tokens_BT: Int
    lengths_B: Int
    row_N: Int
    """Which of the B rows."""
    position_N: Int

    @property
    def last_N(self) -> npt.NDArray[np.bool_]:
        """Whether a position is the last of its row."""
        return np.append(np.diff(self.row_N) != 0, np.ones(min(1, len(self.row_N)), bool))


class Measured(NamedTuple):
    """Losses of one condition at those of its positions that it patches."""

    condition: Condition
    position_P: Int
    """Which of the batch's N positions."""
    ce_P: Float32
    """Cross entropy of the next token, nats."""
    kl_P: Float32
    """KL(clean ‖ patched) of the next-token distributions, nats."""
    top1_P: npt.NDArray[np.bool_]
    """Whether the likeliest next token is the clean run's."""


ValuesOf = Callable[[Condition, Float32], Float32]
"""(condition, true activations [N, L]) → activations [N, L] in its place."""


@torch.no_grad()
def run_batch(
    subject: Subject,
    coder: Coder,
    batch: Batch,
    latents: Int,
    conditions: Iterable[Condition],
    values_of: ValuesOf,
    clip_k: int | None,
) -> list[Measured]:
    """Losses of all conditions on some rows.

    The subject runs once up to the hookpoint; the true code is encoded there, in the context that the patched runs see.
    A condition's output replaces the module's at its positions (`all` of the batch's, or the `last` of each row) and
    nowhere else.
    """
    state = subject.start(batch.tokens_BT, batch.lengths_B, coder.meta.hookpoint)
    row_N, position_N = (torch.from_numpy(x).to(subject.device) for x in (batch.row_N, batch.position_N))
    written_ND = state.captured.output_BTD[row_N, position_N].float()
    read_ND = state.captured.input_BTD[row_N, position_N].float() if coder.meta.kind == "transcoder" else written_ND
    codes = coder.encode(read_ND)
    truth_NM = dense(codes, coder.meta.width)
    columns = torch.tensor(latents, device=subject.device)
    truth_NL = truth_NM[:, columns].cpu().numpy()
    target_N = state.tokens_BT[row_N, position_N + 1]
    clean_BTD = subject.finish_hidden(state)
    clean_ND = clean_BTD[row_N, position_N]
    last_N = torch.from_numpy(batch.last_N).to(subject.device)

    found = []
    for condition in conditions:
        judged_P = torch.nonzero(last_N if condition.positions == "last" else torch.ones_like(last_N)).squeeze(1)
        if condition.values == "clean":
            hidden_PD = clean_ND[judged_P]
        else:
            if condition.values == "coder":
                output_ND = coder.decode(codes, read_ND)
            else:
                code_NM = truth_NM.clone()
                code_NM[:, columns] = torch.tensor(values_of(condition, truth_NL), device=subject.device)
                output_ND = coder.decode_dense(clip(code_NM, condition.clip, clip_k, coder.decoder_MD), read_ND)
            patched_BTD = state.captured.output_BTD.clone()
            patched_BTD[row_N[judged_P], position_N[judged_P]] = output_ND[judged_P].to(patched_BTD.dtype)
            hidden_PD = subject.finish_hidden(state, patched_BTD)[row_N[judged_P], position_N[judged_P]]
        losses = subject.losses(hidden_PD[None], clean_ND[judged_P], target_N[judged_P])
        ce_P, kl_P, top1_P = (column[0].cpu().numpy() for column in losses)
        found.append(Measured(condition, judged_P.cpu().numpy(), ce_P, kl_P, top1_P))
    return found


def dense(codes: Codes, width: int) -> Tensor:
    """[N, width] of a sparse code."""
    result_NM = codes.value_NK.new_zeros(len(codes.value_NK), width)
    return result_NM.scatter_add_(1, codes.index_NK.long(), codes.value_NK)


def clip(code_NM: Tensor, how: Clip, k: int | None, decoder_MD: Tensor) -> Tensor:
    """Keep the k largest activations of each position: by `value`, or by value times decoder `norm`; `none` keeps
    all."""
    if how == "none" or k is None or k >= code_NM.shape[1]:
        return code_NM
    rank_NM = code_NM if how == "value" else code_NM * decoder_MD.norm(dim=1)
    kept_NK = rank_NM.topk(k, dim=1).indices
    return torch.zeros_like(code_NM).scatter_(1, kept_NK, code_NM.gather(1, kept_NK))
