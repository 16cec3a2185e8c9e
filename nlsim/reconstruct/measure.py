"""Carrying out the stage `reconstruct` on one block of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.calibrate.inputs import reads_of
from nlsim.corpus.splits import Split
from nlsim.latents.arrays import cuts
from nlsim.latents.cache_stage import models
from nlsim.latents.codes import CodeReader
from nlsim.latents.rows import TokenRows
from nlsim.reconstruct.conditions import Condition, conditions_of, replaced
from nlsim.reconstruct.losses import LossTable
from nlsim.reconstruct.patch import Batch, run_batch
from nlsim.reconstruct.values import Stand
from nlsim.simulate.predictions import Predictions

if TYPE_CHECKING:
    from nlsim.pipeline.stage import StageContext
    from nlsim.reconstruct.config import Values

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


def measure(context: StageContext) -> None:
    """Write the losses of this shard's windows; a shard without windows writes an empty table."""
    config, inputs = context.config, context.inputs
    settings = config.reconstruct
    subject, coder = models(config.subject, config.coder)
    rows = TokenRows.of(inputs["tokens"])
    predictions = Predictions(inputs["simulate"])
    reads = reads_of(predictions, inputs["tokens"])
    windows = np.flatnonzero(predictions.windows.split_N == Split.EVALUATE)
    first, last = (int(cut) for cut in cuts(len(windows), context.shards)[context.shard : context.shard + 2])
    read_R = np.flatnonzero(np.isin(predictions.windows.window_R, windows[first:last]))
    stand = Stand(inputs["calibrate"], predictions, read_R, config.calibrate.least_mass, settings.unexplained)
    clip_k = settings.clip_k or coder.meta.k or _mean_active(CodeReader(inputs["cache"], rows))
    losses = LossTable()
    for start, stop in batches(first, last, settings.batch_rows, settings.curve_rows):
        places = np.flatnonzero(np.isin(predictions.windows.window_R[read_R], windows[start:stop]))
        some = slice(int(places[0]), int(places[-1]) + 1)
        at_N, document_N = reads.at_R[read_R[some]], reads.document_R[read_R[some]]
        values_of = _Values(stand, some, rows.ids(at_N), at_N, config.seed)
        conditions = conditions_of(settings, curve=start < settings.curve_rows)
        batch = batch_of(rows, at_N)
        for measured in run_batch(subject, coder, batch, stand.latent_L, conditions, values_of, clip_k):
            at_P = at_N[measured.position_P]
            losses.add(measured, at_P // rows.context, document_N[measured.position_P])
            context.progress(start - first, last - first, "windows")
    context.output.table("losses", losses.table())
    context.output.count(windows=last - first, lines=len(losses), latents=len(stand.latent_L))


class _Values:
    """Values of one batch: each kind is computed once, however many fractions use it."""

    def __init__(self, stand: Stand, some: slice, ids_N: Int, at_N: Int, seed: int) -> None:
        self._stand, self._some, self._ids_N, self._at_N, self._seed = stand, some, ids_N, at_N, seed
        self._made: dict[Values, Float32] = {}

    def __call__(self, condition: Condition, truth_NL: Float32) -> Float32:
        kind = condition.values
        if kind not in self._made:
            self._made[kind] = self._stand.values(kind, truth_NL, self._some, self._ids_N, self._at_N, self._seed)
        if condition.fraction == 1:
            return self._made[kind]
        chosen = replaced(condition.fraction, condition.order, condition.draw, self._stand.score_L, self._seed)
        mixed_NL = truth_NL.copy()
        mixed_NL[:, chosen] = self._made[kind][:, chosen]
        return mixed_NL


def batches(first: int, last: int, step: int, curve_rows: int) -> list[tuple[int, int]]:
    """Windows [first, last) in batches; none crosses `curve_rows`, where the fractions end."""
    middle = min(max(first, curve_rows), last)
    blocks = ((first, middle), (middle, last))
    return [(start, min(start + step, stop)) for low, stop in blocks for start in range(low, stop, step)]


def batch_of(rows: TokenRows, at_N: Int) -> Batch:
    """The rows of some global positions, cut after the last token that any of them needs."""
    row_N, position_N = at_N // rows.context, at_N % rows.context
    used, index_N = np.unique(row_N, return_inverse=True)
    longest = int(position_N.max()) + 2  # the token after a position is its target
    lengths = np.minimum(rows.length_R[used], longest)
    return Batch(np.asarray(rows.tokens_RT[used, :longest], np.int64), lengths, index_N.astype(np.int64), position_N)


def _mean_active(codes: CodeReader) -> int:
    """Mean number of active latents per cached token, rounded up: k for clipping where the coder has none."""
    tokens = int(codes.row_data.length_R[codes.rows].sum() - len(codes.rows))
    return max(1, -(-int(codes.active_M.sum()) // max(tokens, 1)))
