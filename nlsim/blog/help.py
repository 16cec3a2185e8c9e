"""With help: the active latents that were found from their explanations, with their true values; the others silent.

False positives cannot occur, so this is what the explanations' misses alone cost. `found` keeps what a kind of
explanations found; `random` as many of the active ones at random, which says whether it matters *which* are found;
`none` and `coder` are the ends of the scale. Latents outside of those under study keep the truth throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from nlsim.blog.identify import CALLED
from nlsim.blog.limits import drawn, first_of_random
from nlsim.blog.losses import LossLines
from nlsim.blog.pairs import read_pairs, read_windows
from nlsim.coders.coder import Codes
from nlsim.corpus.splits import Split
from nlsim.errors import DataError
from nlsim.latents.arrays import cuts
from nlsim.latents.cache_stage import models
from nlsim.latents.index import LatentIndex
from nlsim.pipeline.variant import of_kind
from nlsim.reconstruct.measure import batch_of, batches
from nlsim.reconstruct.patch import clean_run, coder_input

if TYPE_CHECKING:
    from torch import Tensor

    from nlsim.coders.coder import Coder
    from nlsim.pipeline.stage import StageContext
    from nlsim.reconstruct.patch import CleanRun
    from nlsim.store.artifact import Artifact

Int = npt.NDArray[np.int64]


def measure_help(context: StageContext) -> None:
    """Write the losses of this shard's reads."""
    config, inputs, settings = context.config, context.inputs, context.config.blog
    kinds = {kind: of_kind(inputs, kind)["simulate"] for kind in (config.kind, *config.kinds)}
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    at_R = common_reads(kinds, index.context, settings.help_positions)
    row_R = at_R // index.context
    rows = np.unique(row_R)
    first, last = (int(cut) for cut in cuts(len(rows), context.shards)[context.shard : context.shard + 2])
    document_R = np.asarray(inputs["tokens"].arrays(0, "rows")["document"], np.int64)
    subject, coder = models(config.subject, config.coder)
    studied_M = studied(kinds[config.kind], index.width)
    found = {kind: found_keys(simulate, index, at_R, config.calibrate.least_mass) for kind, simulate in kinds.items()}
    around = settings.help_positions == "last" and settings.help_earlier == "coder"
    lines = LossLines({"kind": "string", "keep": "string"})
    for start, stop in batches(first, last, settings.batch_rows, last):
        at_N = at_R[np.isin(row_R, rows[start:stop])]
        batch = batch_of(index.rows, at_N)
        run = clean_run(subject, coder, batch)
        around_BTD = everywhere(run, coder) if around else None
        key_NK = at_N[:, None] * index.width + run.codes.index_NK.cpu().numpy()
        for (kind, keep), kept_NK in kept(run, found, key_NK, at_N, studied_M, config.seed):
            output_ND = None
            if kept_NK is not None:
                code = Codes(run.codes.index_NK, run.codes.value_NK * kept_NK)
                output_ND = coder.decode(code, run.read_ND)
            losses = run.losses(output_ND, run.places("all"), around_BTD, reverse=True)
            lines.add(losses, {"kind": kind, "keep": keep}, at_N, document_R[at_N // index.context])
            context.progress(start - first, last - first, "windows")
    context.output.table("losses", lines.table())
    context.output.count(reads=int(np.isin(row_R, rows[first:last]).sum()), lines=len(lines))


def common_reads(kinds: Mapping[str, Artifact], context: int, positions: str) -> Int:
    """Evaluation reads at which all kinds were asked, ascending; with `last`, the last one of each row alone. Raises
    DataError when there are none."""
    sets = []
    for simulate in kinds.values():
        windows = read_windows(simulate)
        sets.append(windows.at_R[windows.reads_of(Split.EVALUATE)])
    common = sets[0]
    for other in sets[1:]:
        common = np.intersect1d(common, other)
    if not len(common):
        raise DataError("the kinds of explanations were asked at different tokens", "give them the same `simulate`")
    if positions == "last":
        common = common[np.append(np.diff(common // context) != 0, True)]
    return common


def studied(simulate: Artifact, width: int) -> npt.NDArray[np.bool_]:
    """[width] whether a latent is under study."""
    studied_M = np.zeros(width, bool)
    studied_M[np.asarray(simulate.tables("latents").column("latent").to_numpy(), np.int64)] = True
    return studied_M


def found_keys(simulate: Artifact, index: LatentIndex, at_R: Int, least_mass: float) -> Int:
    """Position · width + latent of the pairs called active, at the positions `at_R`."""
    reads = np.searchsorted(read_windows(simulate).at_R, at_R)
    pairs = read_pairs(simulate, index, reads, least_mass)
    called_P = pairs.probability_P >= CALLED
    return pairs.at_R[pairs.read_P[called_P]] * index.width + pairs.latent_P[called_P]


def kept(
    run: CleanRun, found: Mapping[str, Int], key_NK: Int, at_N: Int, studied_M: npt.NDArray[np.bool_], seed: int
) -> Iterator[tuple[tuple[str, str], Tensor | None]]:
    """((kind, what is kept), which slots of the code stay); None for the clean run."""
    device = run.codes.value_NK.device
    studied_NK = torch.from_numpy(studied_M[run.codes.index_NK.cpu().numpy()]).to(device)
    active_NK = studied_NK & (run.codes.value_NK > 0)
    order_NK = drawn(at_N, key_NK.shape[1], seed, 19).to(device)
    yield ("", "clean"), None
    yield ("", "coder"), torch.ones_like(studied_NK)
    yield ("", "none"), ~studied_NK
    for kind, keys in found.items():
        found_NK = active_NK & torch.from_numpy(np.isin(key_NK, keys)).to(device)
        yield (kind, "found"), found_NK | ~studied_NK
        count_N1 = found_NK.sum(1, keepdim=True)
        yield (kind, "random"), first_of_random(active_NK, count_N1, order_NK) | ~studied_NK


def everywhere(run: CleanRun, coder: Coder) -> Tensor:
    """[B, T, D] the coder's output at every position but the first of each row, which stays clean."""
    read_BTD = coder_input(coder, run.state)[:, 1:].float()
    read_ND = read_BTD.flatten(0, 1)
    output_ND = coder.decode(coder.encode(read_ND), read_ND)
    around_BTD = run.state.captured.output_BTD.clone()
    around_BTD[:, 1:] = output_ND.view(*read_BTD.shape[:2], -1).to(around_BTD.dtype)
    return around_BTD
