"""Stage `index`: the cache turned into latent-major form by external partition. A shard is a range of latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.latents.arrays import cuts
from nlsim.latents.cache_stage import TYPICAL_ACTIVE, cached_tokens_at_most
from nlsim.latents.codes import CodeReader
from nlsim.latents.csc import entries_of, keys_of, parts, starts_of
from nlsim.latents.rows import TokenRows
from nlsim.latents.statistics import LatentStatistics, statistics
from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    import pyarrow

    from nlsim.config import Config

PART = 1 << 25  # activations sorted together, 8 bytes each
EMPTY = statistics(np.zeros(0, np.uint64), 0, np.zeros(0, np.uint8), 1, 1.0)  # of no latents


class Index(Stage):
    """codes → entries by latent, and the table of latents. NumPy alone; runs in the image without torch.

    Objects of a shard: arrays `csc`: indptr [latents + 1] and entries u16 [n, 3], each one `csc.ENTRY` (token, value),
    in token order inside a latent, so that a latent is one contiguous piece; table `latents`; JSON `coverage`. Position
    0 and padding are never in it, outlier positions only with `index.outliers: keep`. Every shard reads all of the
    cache, block by block, and keeps its own range. Memory: 6 bytes per activation of the range and 8 per activation of
    one part of it.
    """

    name = "index"
    sections = ("index",)
    inputs = ("tokens", "cache")

    def shards(self, config: Config) -> int:
        return max(1, -(-cached_tokens_at_most(config) // config.index.shard_tokens))

    def resources(self, config: Config) -> Resources:  # noqa: ARG002
        return Resources(image="cpu", cpus=1.0, memory_gb=2.0)

    def estimate(self, config: Config) -> Estimate:
        return Estimate(tokens=cached_tokens_at_most(config), bytes=cached_tokens_at_most(config) * TYPICAL_ACTIVE * 6)

    def execute(self, context: StageContext) -> None:
        settings = context.config.index
        rows = TokenRows.of(context.inputs["tokens"])
        codes = CodeReader(context.inputs["cache"], rows)
        low, high = (int(cut) for cut in cuts(codes.width, context.shards)[context.shard : context.shard + 2])
        excluded = codes.outliers if settings.outliers == "exclude" else np.zeros(0, np.int64)
        count = codes.active_M[low:high]
        ranges = list(parts(count, PART))
        entries = np.empty((int(count.sum()), 3), np.uint16)
        filled, starts, found = 0, [np.zeros(1, np.int64)], []
        for number, (start, stop) in enumerate(ranges):
            keys = np.empty(int(count[start:stop].sum()), np.uint64)
            kept = 0
            for block in codes.blocks(excluded):
                fresh = keys_of(block.latent, block.value, block.token, low + start, low + stop)
                keys[kept : kept + len(fresh)] = fresh
                kept += len(fresh)
                context.progress(number * len(codes.rows) + block.rows_done, len(ranges) * len(codes.rows), "rows")
            keys = keys[:kept]
            keys.sort()
            entries[filled : filled + kept] = entries_of(keys)
            starts.append(starts_of(keys, stop - start)[1:] + filled)
            found.append(statistics(keys, stop - start, rows.split_R, rows.context, settings.robust_quantile))
            filled += kept
        context.output.arrays("csc", {"indptr": np.concatenate(starts), "entries": entries[:filled]})
        usable = rows.usable(codes.rows, excluded)
        context.output.table("latents", latent_table(low, found, codes.decoder_norm_M[low:high], usable))
        context.output.json("coverage", {"outliers": settings.outliers, "excluded": len(excluded)})
        context.output.count(latents=high - low, active=filled)


def latent_table(
    low: int, found: list[LatentStatistics], decoder_norm_M: npt.NDArray[np.float32], usable_S: npt.NDArray[np.int64]
) -> pyarrow.Table:
    """The `latents` table of a range of latents that starts at `low`; `usable_S` are positions per split."""
    import pyarrow

    of = LatentStatistics(*(np.concatenate(column) for column in zip(EMPTY, *found, strict=True)))
    active, total = of.active_MS.sum(1), of.sum_MS.sum(1)
    columns = {
        "latent": np.arange(low, low + len(active)),
        "active": active,
        "rows": of.rows_MS.sum(1),
        "density": active / max(int(usable_S.sum()), 1),
        "sum": total,
        "mean": total / np.maximum(active, 1),
        "max": of.max_M,
        "robust_max": of.robust_max_M,
        "decoder_norm": decoder_norm_M,
    }
    for split in Split:
        columns[f"active_{split.key}"] = of.active_MS[:, split]
        columns[f"rows_{split.key}"] = of.rows_MS[:, split]
        columns[f"sum_{split.key}"] = of.sum_MS[:, split]
    return pyarrow.table(columns)
