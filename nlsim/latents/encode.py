"""Rows of tokens → codes of a sparse coder: one early-exit forward per batch, never a [tokens, width] matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nlsim.coders.load import check_fit
from nlsim.errors import DataError
from nlsim.latents.arrays import IntArray, ranges

if TYPE_CHECKING:
    from nlsim.coders.coder import Coder
    from nlsim.subject.model import Subject

LARGEST = float(np.finfo(np.float16).max)


class Encoded(NamedTuple):
    """Codes of n tokens, row after row, each row from its position 0, whose code is empty.

    Coders that keep k latents of every token: `latent` and `value` are [n, k] and value 0 means absent. Others: they
    are flat, token i has the entries [indptr[i], indptr[i + 1]).
    """

    latent: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    value: npt.NDArray[np.float16]
    indptr: npt.NDArray[np.int64] | None
    outlier: npt.NDArray[np.int64]
    """Which of the n tokens are outliers, ascending; their codes are kept."""
    saturated: int
    """Activations beyond the largest float16, stored as that."""


def encode_rows(
    subject: Subject,
    coder: Coder,
    tokens_RT: IntArray,
    length_R: IntArray,
    *,
    outlier_norm: float,
    batch_tokens: int,
    names: IntArray | None = None,
    progress: Callable[[int], None] | None = None,
) -> Encoded:
    """Codes of all tokens of some rows (see `Encoded`).

    A position is an outlier when the norm of what the coder reads or rebuilds there exceeds `outlier_norm` times the
    median norm over positions 1… of its row. `progress` is told the tokens done, batch by batch. Raises DataError for
    values that are not finite, naming the row (as `names` has it, if given).
    """
    length_R = np.asarray(length_R, np.int64)
    offset_R = np.cumsum(length_R) - length_R
    names = np.arange(len(length_R)) if names is None else names
    sink = _Sink.of(coder, int(length_R.sum()))
    outliers = [np.zeros(0, np.int64)]
    done = 0
    with torch.inference_mode():
        for batch in batches(length_R, batch_tokens):
            length_B = length_R[batch]
            longest = int(length_B.max())
            captured = subject.capture(tokens_RT[batch, :longest], length_B, coder.meta.hookpoint)
            used_BT = torch.arange(longest)[None, :] < torch.from_numpy(length_B)[:, None]
            used_BT[:, 0] = False
            read_BTD = captured.input_BTD if coder.meta.kind == "transcoder" else captured.output_BTD
            check_fit(coder.meta, read_BTD.shape[2], captured.output_BTD.shape[2])
            norm_BT = _norms(read_BTD)
            seen = [norm_BT] if read_BTD is captured.output_BTD else [norm_BT, _norms(captured.output_BTD)]
            used = used_BT.numpy()
            for norm in seen:
                if not np.isfinite(norm[used]).all():
                    row = names[batch[np.flatnonzero((~np.isfinite(norm) & used).any(1))[0]]]
                    raise DataError(
                        f"the subject's activations at {coder.meta.hookpoint} are not finite in row {row}",
                        "run the subject in float32 or bfloat16, and check its weights",
                    )
            token_BT = offset_R[batch][:, None] + np.arange(longest)
            flagged = np.any([outlying(norm, used, outlier_norm) for norm in seen], axis=0)
            outliers.append(token_BT[flagged])
            codes = coder.encode(read_BTD[used_BT.to(read_BTD.device)])
            sink.add(token_BT[used], codes.index_NK.cpu().numpy(), codes.value_NK.float().cpu().numpy())
            done += int(length_B.sum())
            if progress is not None:
                progress(done)
    return sink.finish(np.sort(np.concatenate(outliers)))


def batches(length_R: IntArray, batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Rows in batches of similar length, longest first, at most `batch_tokens` with padding (at least one row)."""
    order = np.argsort(-np.asarray(length_R), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(int(length_R[order[start]]), 1))
        yield order[start : start + size]
        start += size


def outlying(norm_BT: npt.NDArray[np.float32], used_BT: npt.NDArray[np.bool_], times: float) -> npt.NDArray[np.bool_]:
    """Which used positions have a norm above `times` the (lower) median norm of the used positions of their row."""
    count_B = used_BT.sum(1)
    ascending = np.sort(np.where(used_BT, norm_BT, np.inf), axis=1)
    middle = np.take_along_axis(ascending, np.maximum(count_B - 1, 0)[:, None] // 2, axis=1)
    return used_BT & (norm_BT > times * middle)


def _norms(x_BTD: torch.Tensor) -> npt.NDArray[np.float32]:
    norm: npt.NDArray[np.float32] = torch.linalg.vector_norm(x_BTD, dim=2, dtype=torch.float32).cpu().numpy()
    return norm


class _Sink:
    """Collects codes that come in any order of tokens."""

    def __init__(self, tokens: int, width: int, per_token: int | None) -> None:
        self.tokens, self.per_token = tokens, per_token
        self.type = np.uint16 if width <= 1 << 16 else np.uint32
        self.saturated = 0
        self.index = np.zeros((tokens, per_token or 0), self.type)
        self.value = np.zeros((tokens, per_token or 0), np.float16)
        self.pieces: list[tuple[IntArray, IntArray, IntArray, npt.NDArray[np.float16]]] = []

    @classmethod
    def of(cls, coder: Coder, tokens: int) -> _Sink:
        return cls(tokens, coder.meta.width, per_token(coder))

    def add(self, token_N: IntArray, index_NK: IntArray, value_NK: npt.NDArray[np.float32]) -> None:
        self.saturated += int((value_NK > LARGEST).sum())
        half_NK = np.minimum(value_NK, LARGEST).astype(np.float16)
        present = half_NK > 0
        if self.per_token is not None:
            self.index[token_N] = np.where(present, index_NK, 0)
            self.value[token_N] = np.where(present, half_NK, np.float16(0))
        else:
            self.pieces.append((token_N, present.sum(1), index_NK[present].astype(self.type), half_NK[present]))

    def finish(self, outlier: npt.NDArray[np.int64]) -> Encoded:
        if self.per_token is not None:
            return Encoded(self.index, self.value, None, outlier, self.saturated)
        count = np.zeros(self.tokens, np.int64)
        for token_N, count_N, _, _ in self.pieces:
            count[token_N] = count_N
        indptr = np.concatenate([[0], np.cumsum(count)])
        index, value = np.empty(indptr[-1], self.type), np.empty(indptr[-1], np.float16)
        for token_N, count_N, piece_index, piece_value in self.pieces:
            place = ranges(indptr[token_N], count_N)
            index[place], value[place] = piece_index, piece_value
        return Encoded(index, value, indptr, outlier, self.saturated)


def per_token(coder: Coder) -> int | None:
    """How many codes are stored for every token; None for coders whose tokens have different numbers of latents."""
    return coder.meta.k if coder.meta.activation == "topk" else None
