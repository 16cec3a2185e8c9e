"""Which latents a run is about."""

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split, unit_hash
from nlsim.errors import DataError, UsageError
from nlsim.latents.config import LatentsConfig
from nlsim.latents.index import LatentTable


def select_latents(config: LatentsConfig, table: LatentTable, seed: int) -> npt.NDArray[np.int64]:
    """The latents that `config` chooses, ascending; every stage that asks with the same arguments gets the same ones.

    Thresholds are applied first, in rows: a latent active at 200 tokens of 5 rows has 5 contexts, not 200. Raises
    UsageError for a listed latent that does not exist, DataError when no latent passes the thresholds.
    """
    width = len(table.max_M)
    if config.choose == "listed":
        if max(config.ids) >= width:
            raise UsageError(f"latents.ids names latent {max(config.ids)}", f"the coder has {width}, numbered from 0")
        return np.sort(np.array(config.ids, np.int64))
    passes = (
        (table.rows_MS[:, Split.EXPLAIN] >= config.min_explain_rows)
        & (table.rows_MS[:, Split.SCORE] >= config.min_score_rows)
        & (table.density() <= config.max_density)
    )
    if config.part != (0.0, 1.0):
        low, high = config.part
        passes &= np.array([low <= unit_hash("latent", latent) < high for latent in range(width)])
    if not passes.any():
        raise DataError(
            f"none of the {width} latents passes the thresholds of the section latents",
            f"the most rows of the explain split in which any is active are {table.rows_MS[:, Split.EXPLAIN].max()}",
        )
    order = np.arange(width)
    if config.choose == "random":
        order = np.random.default_rng(seed).permutation(width)
    elif config.choose == "heaviest":
        order = np.argsort(-table.sum_MS[:, Split.EXPLAIN] * table.decoder_norm_M, kind="stable")
    return np.sort(order[passes[order]][: config.count])
