"""What calibrations are fitted on, gathered from the run's artifacts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.calibrate.signals import Latents, Signals, read_signals
from nlsim.calibrate.token_mean import Entries, TokenTable, build_token_table
from nlsim.corpus.splits import Split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nlsim.latents.index import LatentIndex
    from nlsim.simulate.predictions import Predictions
    from nlsim.store.artifact import Artifact

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

KNOWN = (Split.TRAIN, Split.EXPLAIN, Split.SCORE)
"""Splits from which base rates, means and token tables come: neither calibrated nor evaluated on."""

LEVELS = np.linspace(0, 1, 33)
"""Levels of the quantiles of true activations."""

SCORERS = ("detection", "fuzzing", "embedding")


class Reads(NamedTuple):
    """Places at which latents were predicted."""

    at_R: Int
    """Global positions, ascending."""
    document_R: Int
    split_R: Int


def reads_of(predictions: Predictions, tokens: Artifact) -> Reads:
    """All reads of a run, with the document each is in."""
    windows = predictions.windows
    rows = tokens.arrays(0, "rows")
    document_R = np.asarray(rows["document"], np.int64)[windows.at_R // rows["tokens"].shape[1]]
    return Reads(windows.at_R, document_R, windows.split_N[windows.window_R])


def signals_of(predictions: Predictions, least_mass: float) -> Signals:
    """Readings of all predictions, latents in the order of `predictions.latents`."""
    found = {}
    for tile in predictions.tiles():
        signals = read_signals(tile.logprobs_LRC, least_mass)
        for latent, expected_R, odds_R in zip(tile.latent_L.tolist(), *signals, strict=True):
            found[latent] = (expected_R, odds_R)
    reads = len(predictions.windows.at_R)
    expected_LR, odds_LR = np.empty((2, len(predictions.latents), reads), np.float32)
    for i, latent in enumerate(predictions.latents.tolist()):
        expected_LR[i], odds_LR[i] = found.pop(latent)
    return Signals(expected_LR, odds_LR)


def choice_mass_of(predictions: Predictions) -> Float64:
    """Mean choice mass at each read."""
    total_R, latents = np.zeros(len(predictions.windows.at_R)), 0
    for tile in predictions.tiles():
        total_R += np.nansum(np.asarray(tile.mass_LR, np.float64), axis=0)
        latents += len(tile.latent_L)
    return total_R / max(latents, 1)


def truth_at(index: LatentIndex, latents: Int, at_R: Int) -> Float32:
    """True activations [latents, reads] at global positions (ascending), in the context they were cached in."""
    truth_LR = np.empty((len(latents), len(at_R)), np.float32)
    for rows in np.array_split(np.unique(at_R // index.context), max(1, len(at_R) // 512)):
        codes = index.codes_of_rows(rows)
        wanted_N = np.isin(codes.token_N, at_R)
        place = np.searchsorted(at_R, codes.token_N[wanted_N])
        truth_LR[:, place] = codes.select(wanted_N).dense(latents, index.width).T
    return truth_LR


def latents_known(index: LatentIndex, latents: Int, score_L: Float64) -> Latents:
    """Base rates, means and robust maxima of latents. The robust maximum leaves out position 0 and outlier
    positions."""
    table, known = index.table, list(KNOWN)
    active_L = table.active_MS[latents][:, known].sum(1)
    tokens = max(int(table.usable_S[known].sum()), 1)
    total_L = table.sum_MS[latents][:, known].sum(1)
    return Latents(
        density_L=active_L / tokens,
        active_mean_L=total_L / np.maximum(active_L, 1),
        robust_max_L=table.robust_max_M[latents].astype(np.float64),
        score_L=score_L,
    )


def active_quantiles(index: LatentIndex, latents: Int) -> Float32:
    """Quantiles at `LEVELS` of each latent's non-zero activations in the known splits; zeros for a silent one."""
    quantile_LV = np.zeros((len(latents), len(LEVELS)), np.float32)
    known_R = np.isin(index.rows.split_R, [int(split) for split in KNOWN])
    for i, latent in enumerate(latents.tolist()):
        found = index.activations(latent)
        value = found.value[known_R[found.row]]
        if value.size:
            quantile_LV[i] = np.quantile(value, LEVELS)
    return quantile_LV


def scores_of(score: Artifact, latents: Int) -> Float64:
    """Each latent's score: balanced accuracy of the first of detection and fuzzing that was run, or the embedding
    scorer's AUC, or the balanced accuracy of a plugin's; NaN for a latent without one."""
    table = score.tables("scores")
    scorer = np.array(table.column("scorer").to_pylist())
    chosen = next((name for name in (*SCORERS, *np.unique(scorer)) if (scorer == name).any()), None)
    score_L = np.full(len(latents), np.nan)
    if chosen is None:
        return score_L
    mine = scorer == chosen
    latent = table.column("latent").to_numpy()[mine]
    column = table.column("auc" if chosen == "embedding" else "balanced_accuracy")
    value = column.to_numpy(zero_copy_only=False).astype(np.float64)[mine]
    order = np.argsort(latent)
    place = np.minimum(np.searchsorted(latent[order], latents), max(len(latent) - 1, 0))
    known = latent[order][place] == latents if len(latent) else np.zeros(len(latents), bool)
    score_L[known] = value[order][place][known]
    return score_L


def token_table(index: LatentIndex, latents: Int, mean_L: Float64, wanted: Int) -> TokenTable:
    """Mean codes (columns `latents`) of the vocabulary numbers `wanted`, from the cached rows of the known splits."""
    rows = index.rows
    known_R = np.isin(rows.split_R, [int(split) for split in KNOWN])
    column_M = np.full(index.width, -1, np.int64)
    column_M[latents] = np.arange(len(latents))

    def entries() -> Iterator[Entries]:
        for block in index.codes.blocks(index.excluded):
            token = np.broadcast_to(block.token, block.latent.shape).reshape(-1)
            column, value = column_M[block.latent.reshape(-1)], block.value.reshape(-1)
            kept = (column >= 0) & (value > 0) & known_R[token // rows.context]
            yield Entries(rows.ids(token[kept]), column[kept], value[kept])

    covered = rows.positions(index.codes.rows[known_R[index.codes.rows]], first=1)
    return build_token_table(wanted, entries(), rows.ids(np.setdiff1d(covered, index.excluded)), mean_L)
