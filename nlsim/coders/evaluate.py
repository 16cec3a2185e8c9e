"""How good a coder is: what it explains of its target, how it is used, and what it costs the subject's predictions."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlsim.coders.coder import Coder, Codes
from nlsim.coders.load import check_fit
from nlsim.metrics.intervals import Bootstrap, Estimate
from nlsim.subject.model import Captured, Subject

CONDITIONS = ("clean", "coder", "zero", "mean", "none")
"""What stands in place of the module's output at every position but the first: clean: itself; coder: the decoded codes;
zero: no latent active, so bias and skip connection alone; mean: every latent at its mean; none: zeros."""


class Usage(NamedTuple):
    """Of a coder on N tokens, position 0 and massive-norm tokens left out."""

    tokens: int
    fvu: float
    """Fraction of variance unexplained: Σ|y - ŷ|² / Σ|y - ȳ|²."""
    fvu_zero: float
    """The same with no latent active: what bias and skip connection leave unexplained."""
    l0: float
    """Mean number of active latents per token."""
    fired_M: NDArray[np.int64]
    """Tokens at which each latent was active."""
    mean_M: NDArray[np.float32]
    """Mean activation of each latent, zeros included."""
    max_M: NDArray[np.float32]


class Losses(NamedTuple):
    """Next-token cross entropy in nats, with intervals from a bootstrap over documents."""

    ce: dict[str, Estimate]
    """By condition."""
    excess: dict[str, Estimate]
    """By condition but clean: its loss less the clean one, paired."""
    recovered: Estimate
    """(zero - coder) / (zero - clean): the part of what the latents contribute that the coder restores."""


def usage(
    subject: Subject,
    coder: Coder,
    tokens_RT: NDArray[np.int32],
    length_R: NDArray[np.int32],
    outlier_norm: float = 10.0,
) -> Usage:
    """Reconstruction and activity of a coder on some rows. Raises DataError when it does not fit the subject."""
    from nlsim.coders.stream import capture_blocks

    place = subject.hookpoint(coder.meta.hookpoint)
    read = place.write if coder.meta.kind == "sae" else place.read
    width, d_out = coder.meta.width, coder.meta.d_out
    fired_M, total_M = torch.zeros(width, dtype=torch.int64), torch.zeros(width, dtype=torch.float64)
    max_M = torch.zeros(width)
    sum_O = torch.zeros(d_out, dtype=torch.float64)
    tokens, square, error, error_zero = 0, 0.0, 0.0, 0.0
    for block in capture_blocks(subject, tokens_RT, length_R, (read, place.write), outlier_norm):
        x_ND, y_NO = block[read].float(), block[place.write].float()
        check_fit(coder.meta, x_ND.shape[1], y_NO.shape[1])
        codes = coder.encode(x_ND)
        zero_NO = without_latents(coder, x_ND)
        error += float((y_NO - coder.decode(codes, x_ND)).double().square().sum())
        error_zero += float((y_NO - zero_NO).double().square().sum())
        square += float(y_NO.double().square().sum())
        sum_O += y_NO.double().sum(0).cpu()
        tokens += len(y_NO)
        index, value = codes.index_NK.flatten().cpu(), codes.value_NK.flatten().cpu()
        fired_M += torch.bincount(index[value > 0], minlength=width)
        total_M.index_add_(0, index, value.double())
        max_M.scatter_reduce_(0, index, value, "amax")
    variance = square - float(sum_O.square().sum()) / max(tokens, 1)
    return Usage(
        tokens=tokens,
        fvu=error / variance,
        fvu_zero=error_zero / variance,
        l0=float(fired_M.sum()) / tokens,
        fired_M=fired_M.numpy(),
        mean_M=(total_M / tokens).float().numpy(),
        max_M=max_M.numpy(),
    )


def without_latents(coder: Coder, x_ND: Tensor) -> Tensor:
    """What the coder gives when no latent is active: its bias, and its skip connection's part. [N, d_out]"""
    none_N1 = torch.zeros(len(x_ND), 1, device=x_ND.device)
    return coder.decode(Codes(none_N1.long(), none_N1), x_ND)


@torch.no_grad()
def losses(
    subject: Subject,
    coder: Coder,
    tokens_RT: NDArray[np.int32],
    length_R: NDArray[np.int32],
    document_R: NDArray[np.int32],
    mean_M: NDArray[np.float32],
) -> Losses:
    """Loss of every token after the first text token of each row, with the module's output replaced at all positions
    but BOS. `mean_M`: the latents' means, from other text."""
    found: dict[str, list[NDArray[np.float32]]] = {condition: [] for condition in CONDITIONS}
    documents = []
    for rows, ce_CP in _batches(subject, coder, tokens_RT, length_R, torch.from_numpy(mean_M)):
        for condition, ce_P in zip(CONDITIONS, ce_CP, strict=True):
            found[condition].append(ce_P.float().cpu().numpy())
        documents.append(np.repeat(document_R[rows], length_R[rows] - 2))
    ce = {condition: np.concatenate(parts) for condition, parts in found.items()}
    bootstrap = Bootstrap(np.concatenate(documents))
    return Losses(
        ce={condition: bootstrap.mean(values) for condition, values in ce.items()},
        excess={c: bootstrap.difference(ce[c], ce["clean"]) for c in CONDITIONS if c != "clean"},
        recovered=bootstrap.ratio(ce["zero"] - ce["coder"], ce["zero"] - ce["clean"]),
    )


def _batches(
    subject: Subject, coder: Coder, tokens_RT: NDArray[np.int32], length_R: NDArray[np.int32], mean_M: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their losses [conditions, positions], position 1 … length - 2 of each row in row order."""
    size = max(1, subject.batch_tokens // tokens_RT.shape[1])
    for start in range(0, len(tokens_RT), size):
        rows = slice(start, min(start + size, len(tokens_RT)))
        longest = int(length_R[rows].max())
        state = subject.start(tokens_RT[rows, :longest], length_R[rows], coder.meta.hookpoint)
        place_T = torch.arange(longest, device=subject.device)
        scored_BT = state.valid_BT.roll(-1, 1) & (place_T > 0) & (place_T < longest - 1)
        hidden_CBTD = subject.finish_hidden(state, _outputs(coder, state.captured, mean_M))
        target_P = state.tokens_BT.roll(-1, 1)[scored_BT]
        hidden_CPD = hidden_CBTD[:, scored_BT]
        yield rows, subject.losses(hidden_CPD, hidden_CPD[0], target_P).ce_CP


def _outputs(coder: Coder, captured: Captured, mean_M: Tensor) -> Tensor:
    """What each condition puts in the module's place, [conditions, B, T, D]; position 0 keeps the true output."""
    clean_BTO = captured.output_BTD
    x_ND = (clean_BTO if coder.meta.kind == "sae" else captured.input_BTD).flatten(0, 1).float()
    zero_NO = without_latents(coder, x_ND)
    made = {
        "clean": clean_BTO,
        "coder": coder.decode(coder.encode(x_ND), x_ND),
        "zero": zero_NO,
        "mean": zero_NO + mean_M.to(x_ND) @ coder.decoder_MD,
        "none": torch.zeros_like(clean_BTO),
    }
    outputs_CBTO = torch.stack([made[c].view_as(clean_BTO).to(clean_BTO.dtype) for c in CONDITIONS])
    outputs_CBTO[:, :, 0] = clean_BTO[:, 0]
    return outputs_CBTO
