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
    from nlsim.reconstruct.config import Clip, Position
    from nlsim.subject.model import Losses, State, Subject

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


class CleanRun(NamedTuple):
    """The clean run of a batch: everything that its patched runs have in common."""

    subject: Subject
    state: State
    read_ND: Tensor
    """What the coder reads at the batch's positions."""
    codes: Codes
    """The true code there, in the context that the patched runs see."""
    row_N: Tensor
    position_N: Tensor
    last_N: Tensor
    """bool: the last position of its row."""
    clean_ND: Tensor
    """Final hidden states."""
    target_N: Tensor
    """The tokens that follow."""

    def places(self, positions: Position) -> Tensor:
        """Which of the N positions are patched and judged: `all` of them, or the `last` of each row."""
        wanted_N = self.last_N if positions == "last" else torch.ones_like(self.last_N)
        return torch.nonzero(wanted_N).squeeze(1)

    def losses(
        self, output_ND: Tensor | None, place_P: Tensor, around_BTD: Tensor | None = None, reverse: bool = False
    ) -> Losses:
        """Losses of one condition at some of the N positions, where `output_ND` replaces the module's output; nowhere
        else does it (None: not at all), unless `around_BTD` does so there."""
        hidden_PD = self.clean_ND[place_P]
        if output_ND is not None:
            base_BTD = self.state.captured.output_BTD if around_BTD is None else around_BTD
            patched_BTD = base_BTD.clone()
            rows_P, positions_P = self.row_N[place_P], self.position_N[place_P]
            patched_BTD[rows_P, positions_P] = output_ND[place_P].to(patched_BTD.dtype)
            hidden_PD = self.subject.finish_hidden(self.state, patched_BTD)[rows_P, positions_P]
        return self.subject.losses(hidden_PD[None], self.clean_ND[place_P], self.target_N[place_P], reverse)


@torch.no_grad()
def clean_run(subject: Subject, coder: Coder, batch: Batch) -> CleanRun:
    """Run the subject once up to the hookpoint, encode the true code there, and carry on to the clean losses."""
    state = subject.start(batch.tokens_BT, batch.lengths_B, coder.meta.hookpoint)
    row_N, position_N = (torch.from_numpy(x).to(subject.device) for x in (batch.row_N, batch.position_N))
    read_ND = coder_input(coder, state)[row_N, position_N].float()
    return CleanRun(
        subject,
        state,
        read_ND,
        coder.encode(read_ND),
        row_N,
        position_N,
        torch.from_numpy(batch.last_N).to(subject.device),
        subject.finish_hidden(state)[row_N, position_N],
        state.tokens_BT[row_N, position_N + 1],
    )


def coder_input(coder: Coder, state: State) -> Tensor:
    """[B, T, D] what the coder reads: a transcoder the module's input, any other its output."""
    return state.captured.input_BTD if coder.meta.kind == "transcoder" else state.captured.output_BTD


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
    """Losses of all conditions on some rows, which share one clean run.

    A condition's output replaces the module's at its positions (`all` of the batch's, or the `last` of each row) and
    nowhere else.
    """
    run = clean_run(subject, coder, batch)
    truth_NM = dense(run.codes, coder.meta.width)
    columns = torch.tensor(latents, device=subject.device)
    truth_NL = truth_NM[:, columns].cpu().numpy()
    found = []
    for condition in conditions:
        place_P = run.places(condition.positions)
        if condition.values == "clean":
            output_ND = None
        elif condition.values == "coder":
            output_ND = coder.decode(run.codes, run.read_ND)
        else:
            code_NM = truth_NM.clone()
            code_NM[:, columns] = torch.tensor(values_of(condition, truth_NL), device=subject.device)
            output_ND = coder.decode_dense(clip(code_NM, condition.clip, clip_k, coder.decoder_MD), run.read_ND)
        losses = run.losses(output_ND, place_P)
        ce_P, kl_P, top1_P = (column[0].cpu().numpy() for column in losses[:3])
        found.append(Measured(condition, place_P.cpu().numpy(), ce_P, kl_P, top1_P))
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
