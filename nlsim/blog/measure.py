"""Carrying out the stage `identify` for one kind of explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlsim.blog.directions import alignment
from nlsim.blog.identify import identification, recall_by_rank, tail_rows, threshold_sweep
from nlsim.blog.pairs import Floats, Ints, read_pairs, read_windows
from nlsim.blog.predictive import LatentQuality, latent_quality, predictive_rows
from nlsim.blog.values import heat_counts, places, value_rows
from nlsim.coders.load import load_coder
from nlsim.corpus.splits import Split
from nlsim.latents.index import LatentIndex
from nlsim.metrics.intervals import Bootstrap

if TYPE_CHECKING:
    import pyarrow

    from nlsim.pipeline.stage import StageContext
    from nlsim.store.artifact import Artifact

STEPS = 5


def measure(context: StageContext) -> None:
    """Write what `Identify` promises."""
    config, inputs, output, settings = context.config, context.inputs, context.output, context.config.blog
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    least = config.calibrate.least_mass
    reads = read_windows(inputs["simulate"]).reads_of(Split.EVALUATE)
    pairs = read_pairs(inputs["simulate"], index, reads, least)
    document_R = np.asarray(inputs["tokens"].arrays(0, "rows")["document"], np.int64)[pairs.at_R // index.context]
    bootstrap = Bootstrap(document_R, settings.draws, level=settings.level)
    context.progress(1, STEPS, "steps")
    rows = identification(pairs, bootstrap, active_at(index, pairs.at_R), settings.pool, settings.top)
    rows += recall_by_rank(pairs, bootstrap, settings.bins)
    rows += threshold_sweep(pairs, bootstrap, settings.thresholds)
    rows += tail_rows(pairs, bootstrap, settings.thresholds, settings.tail)
    context.progress(2, STEPS, "steps")
    decoder_MD = load_coder(config.coder, "cpu").decoder_MD.detach().numpy()
    rows += alignment(pairs, decoder_MD, bootstrap, settings.aligned_reads, config.seed)
    context.progress(3, STEPS, "steps")
    digits = read_pairs(inputs["values"], index, reads, least) if "values" in inputs else pairs
    placed = places(digits, index, settings.grid)
    rows += value_rows(placed, Bootstrap(document_R[placed.read_A], settings.draws, level=settings.level))
    context.progress(4, STEPS, "steps")
    quality = latent_quality(pairs)
    scores = scores_by_scorer(inputs["score"], quality.latent_L)
    density_L = index.table.density()[quality.latent_L]
    rows += predictive_rows(quality, scores, density_L, settings.bins)
    output.json("metrics", rows)
    output.arrays("heat", heat_counts(placed))
    output.table("latents", _latents_table(quality, scores, density_L))
    output.count(pairs=len(pairs.latent_P), reads=len(reads), latents=len(quality.latent_L), values=len(placed.read_A))


def active_at(index: LatentIndex, at_R: Ints) -> Ints:
    """Active latents at each position, explained or not."""
    codes = index.codes_of_rows(np.unique(at_R // index.context))
    return np.diff(codes.select(np.isin(codes.token_N, at_R)).indptr)


def scores_by_scorer(score: Artifact, latent_L: Ints) -> dict[str, Floats]:
    """Balanced accuracy of each latent's explanation by each scorer (of `embedding` the AUC); NaN without one."""
    table = score.tables("scores")
    scorers = table.column("scorer").to_pylist()
    known = table.column("latent").to_pylist()
    found = {}
    for scorer in sorted(set(scorers)):
        values = table.column("auc" if scorer == "embedding" else "balanced_accuracy").to_pylist()
        mine = {latent: v for latent, name, v in zip(known, scorers, values, strict=True) if name == scorer}
        found[scorer] = np.array([mine.get(latent, np.nan) for latent in latent_L.tolist()], np.float64)
    return found


def _latents_table(quality: LatentQuality, scores: dict[str, Floats], density_L: Floats) -> pyarrow.Table:
    import pyarrow as pa

    columns = {name.removesuffix("_L"): column for name, column in quality._asdict().items()}
    return pa.table({**columns, "density": density_L, **scores})
