"""Training latents: what coders and neurons do on rows of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nlsim.coders.coder import Coder
from nlsim.coders.load import load_coder
from nlsim.coders.stream import capture_blocks
from nlsim.simulator.config import SourceConfig
from nlsim.simulator.material import Activity
from nlsim.subject.model import Subject

ROBUST = 0.999
"""Quantile of a latent's activations that is written as strength 9."""
SPARSEST, DENSEST = 0.006, 0.08
"""Share of tokens at which a neuron counts as active: drawn between the two, evenly in its logarithm."""


class Gathered(NamedTuple):
    """Latents of one coder or of some neurons."""

    name: str
    activities: list[Activity]


def gather(
    subject: Subject,
    config: SourceConfig,
    tokens_RT: npt.NDArray[np.int32],
    length_R: npt.NDArray[np.int32],
    seed: int,
    progress: Callable[[int, int], None],
) -> list[Gathered]:
    """Activities on the usable tokens of `tokens_RT`, by one pass over the subject for all sources."""
    rng = np.random.default_rng([seed, 1])
    coders = [load_coder(coder) for coder in config.coders]
    points = [subject.hookpoint(coder.meta.hookpoint) for coder in coders]
    reads = [
        point.read if coder.meta.kind == "transcoder" else point.write
        for coder, point in zip(coders, points, strict=True)
    ]
    modules = [subject.hookpoint(name).read for name in config.neurons]
    codes: list[list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]]] = [
        [] for _ in coders
    ]
    neurons: list[list[npt.NDArray[np.float16]]] = [[] for _ in modules]
    drawn: dict[int, npt.NDArray[np.int64]] = {}
    total = int((length_R.astype(np.int64) - 1).sum())
    done = 0
    for block in capture_blocks(subject, tokens_RT, length_R, [*reads, *modules]):
        count = len(next(iter(block.values())))
        for coder, read, found in zip(coders, reads, codes, strict=True):
            found.append(_codes(coder, block[read], done))
        for number, module in enumerate(modules):
            x_ND = block[module]
            if number not in drawn:
                drawn[number] = rng.choice(x_ND.shape[1], min(config.neurons_each, x_ND.shape[1]), replace=False)
            neurons[number].append(x_ND[:, torch.from_numpy(drawn[number])].half().cpu().numpy())
        done += count
        progress(done, total)
    made = [
        Gathered(f"{config.subject.model} {coder.meta.hookpoint}", _latents(found, coder.meta.width))
        for coder, found in zip(coders, codes, strict=True)
    ]
    for name, parts in zip(config.neurons, neurons, strict=True):
        made.append(Gathered(f"{config.subject.model} {name}", _neurons(np.concatenate(parts), rng)))
    return made


def _codes(
    coder: Coder, x_ND: torch.Tensor, first: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(latent, place, value) of a block whose first token has place `first`."""
    codes = coder.encode(x_ND)
    value_NK = codes.value_NK.cpu().numpy()
    place, slot = np.nonzero(value_NK > 0)
    return codes.index_NK.cpu().numpy()[place, slot].astype(np.int64), place + first, value_NK[place, slot]


def _latents(
    found: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]], width: int
) -> list[Activity]:
    latent, place, value = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((place, latent))
    ends = np.searchsorted(latent[order], np.arange(width + 1))
    return [activity(place[order[a:b]], value[order[a:b]]) for a, b in pairwise(ends) if b > a]


def _neurons(x_PD: npt.NDArray[np.float16], rng: np.random.Generator) -> list[Activity]:
    """Each neuron in the direction in which its tail is longer, cut at a share of the tokens of its own."""
    made = []
    for x_P in x_PD.T.astype(np.float32):
        low, high = np.quantile(x_P, [0.01, 0.99])
        signed_P = x_P if high > -low else -x_P
        share = np.exp(rng.uniform(np.log(SPARSEST), np.log(DENSEST)))
        place = np.flatnonzero(signed_P > max(float(np.quantile(signed_P, 1 - share)), 0.0))
        if len(place):
            made.append(activity(place, signed_P[place]))
    return made


def activity(place_A: npt.NDArray[np.int64], value_A: npt.NDArray[np.floating]) -> Activity:
    """Activations as strengths."""
    scale = max(float(np.quantile(value_A, ROBUST)), 1e-6)
    return Activity(place_A, np.clip(9 * value_A / scale, 0.25, 9).astype(np.float32))
