"""How many true latents are needed, and how accurate must a simulator be? Neither needs explanations.

`strongest` and `random` keep n of the true active latents of every token, with their true values. `planted` is a
simulator made up to have a given recall and false-positive rate: it keeps each active latent with one probability, with
its true value, and turns each inactive one on with the other, at the mean of its activations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nlsim.blog.losses import LossLines
from nlsim.calibrate.inputs import KNOWN
from nlsim.coders.coder import Codes
from nlsim.corpus.splits import Split
from nlsim.latents.arrays import cuts
from nlsim.latents.cache_stage import models
from nlsim.latents.index import LatentIndex
from nlsim.reconstruct.measure import batch_of, batches
from nlsim.reconstruct.patch import clean_run, dense
from nlsim.simulate.windows import choose_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from nlsim.blog.config import BlogConfig
    from nlsim.coders.coder import Coder
    from nlsim.config import Config
    from nlsim.pipeline.stage import StageContext
    from nlsim.reconstruct.patch import CleanRun
    from nlsim.simulate.windows import Windows

Int = npt.NDArray[np.int64]


class Keep(NamedTuple):
    """One patched run."""

    keep: str
    """`clean`: nothing is patched; `coder`: all; `zero`: none; `strongest`, `random`: so many `latents`; `planted`."""
    latents: int = 0
    draw: int = 0
    recall: float = 0.0
    false_rate: float = 0.0


def kept_conditions(settings: BlogConfig) -> list[Keep]:
    """The runs of every row."""
    found = [Keep("clean"), Keep("coder"), Keep("zero")]
    for count in settings.counts:
        found.append(Keep("strongest", count))
        found += [Keep("random", count, draw) for draw in range(settings.random_draws)]
    return found


def planted_conditions(settings: BlogConfig) -> list[Keep]:
    """Further runs of the first rows."""
    return [Keep("planted", recall=r, false_rate=f) for r in settings.recalls for f in settings.false_rates]


def limit_windows(index: LatentIndex, config: Config) -> Windows:
    """Windows of the evaluation rows, read at every token."""
    settings = config.simulate.model_copy(
        update={
            "positions": "all",
            "window": config.blog.window,
            "evaluation_rows": config.blog.rows,
            "calibration_rows": 1,
        }
    )
    return choose_windows(index.rows, settings, config.seed)


def measure_limits(context: StageContext) -> None:
    """Write the losses of this shard's rows."""
    config, inputs, settings = context.config, context.inputs, context.config.blog
    subject, coder = models(config.subject, config.coder)
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    windows = limit_windows(index, config)
    mine = np.flatnonzero(windows.split_N == Split.EVALUATE)
    first, last = (int(cut) for cut in cuts(len(mine), context.shards)[context.shard : context.shard + 2])
    document_R = np.asarray(inputs["tokens"].arrays(0, "rows")["document"], np.int64)
    lines = LossLines(
        {"keep": "string", "latents": "int64", "draw": "int64", "recall": "double", "false_rate": "double"}
    )
    mean_M = active_means(index)
    for start, stop in batches(first, last, settings.batch_rows, settings.planted_rows):
        at_N = windows.at_R[np.isin(windows.window_R, mine[start:stop])]
        run = clean_run(subject, coder, batch_of(index.rows, at_N))
        row_N = at_N // index.context
        conditions = kept_conditions(settings)
        if start < settings.planted_rows:
            conditions += planted_conditions(settings)
        for condition, output_ND in outputs(run, coder, conditions, at_N, mean_M, config.seed):
            losses = run.losses(output_ND, run.places("all"), reverse=True)
            lines.add(losses, condition._asdict(), row_N, document_R[row_N])
            context.progress(start - first, last - first, "rows")
    context.output.table("losses", lines.table())
    context.output.count(rows=last - first, lines=len(lines))


def active_means(index: LatentIndex) -> npt.NDArray[np.float32]:
    """[width] mean activation of each latent where it is active, in the splits that explanations and scores come
    from."""
    table, known = index.table, list(KNOWN)
    active_M = np.maximum(table.active_MS[:, known].sum(1), 1)
    return (table.sum_MS[:, known].sum(1) / active_M).astype(np.float32)


def outputs(
    run: CleanRun, coder: Coder, conditions: list[Keep], at_N: Int, mean_M: npt.NDArray[np.float32], seed: int
) -> Iterator[tuple[Keep, Tensor | None]]:
    """What stands in for the module's output under each condition; None for the clean run."""
    codes, width = run.codes, coder.meta.width
    slots = codes.value_NK.shape[1]
    uniform_NM: Tensor | None = None
    for condition in conditions:
        if condition.keep == "clean":
            yield condition, None
        elif condition.keep == "planted":
            if uniform_NM is None:  # one draw per token and latent: the conditions differ in nothing else
                uniform_NM = drawn(at_N, width, seed, 17).to(run.read_ND.device)
                truth_NM = dense(codes, width)
                wrong_NM = torch.where(truth_NM > 0, 0.0, torch.from_numpy(mean_M).to(truth_NM.device))
            code_NM = truth_NM * (uniform_NM < condition.recall) + wrong_NM * (uniform_NM < condition.false_rate)
            yield condition, coder.decode_dense(code_NM, run.read_ND)
        else:
            order_NK = drawn(at_N, slots, seed, condition.draw).to(codes.value_NK.device)
            kept_NK = kept_slots(codes.value_NK, condition, order_NK)
            yield condition, coder.decode(Codes(codes.index_NK, codes.value_NK * kept_NK), run.read_ND)


def kept_slots(value_NK: Tensor, condition: Keep, order_NK: Tensor) -> Tensor:
    """bool: which slots of the code stay, strongest first in every row; `order_NK` decides which random ones."""
    if condition.keep == "coder":
        return torch.ones_like(value_NK, dtype=torch.bool)
    if condition.keep == "zero":
        return torch.zeros_like(value_NK, dtype=torch.bool)
    if condition.keep == "strongest":
        return (torch.arange(value_NK.shape[1], device=value_NK.device) < condition.latents).expand_as(value_NK)
    return first_of_random(value_NK > 0, torch.full_like(value_NK[:, :1], condition.latents), order_NK)


def first_of_random(among_NK: Tensor, count_N1: Tensor, order_NK: Tensor) -> Tensor:
    """bool: in each row `count_N1` of the slots in `among_NK` (all, if there are fewer), those of least `order_NK`."""
    key_NK = torch.where(among_NK, order_NK, torch.inf)
    rank_NK = key_NK.argsort(dim=1).argsort(dim=1)
    return among_NK & (rank_NK < count_N1)


def drawn(at_N: Int, size: int, seed: int, purpose: int) -> Tensor:
    """[N, size] float32 uniforms: a row depends on (seed, position, purpose) alone, and begins alike for any size."""
    rows = [np.random.default_rng([seed, at, purpose]).random(size, np.float32) for at in at_N.tolist()]
    return torch.from_numpy(np.stack(rows))
