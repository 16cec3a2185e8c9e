"""Predictions as a flat list of pairs of a latent and a read, whether all pairs were asked about or a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nlsim.calibrate.signals import read_signals
from nlsim.errors import DataError
from nlsim.simulate.windows import Windows

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.latents.codes import RowCodes
    from nlsim.latents.index import LatentIndex
    from nlsim.store.artifact import Artifact

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Pairs(NamedTuple):
    """P pairs that were asked about, by read and then by latent, at R reads of N pairs each on average."""

    latent_P: Ints
    read_P: Ints
    """Place of the read in `at_R`."""
    activation_P: npt.NDArray[np.float32]
    """True activation, 0 where the latent is inactive."""
    expected_P: npt.NDArray[np.float32]
    """Expected digit 0..9; NaN where the answer failed."""
    probability_P: npt.NDArray[np.float32]
    """P(active) among the answers; NaN where the answer failed."""
    weight_P: npt.NDArray[np.float32]
    """Pairs that it stands for."""
    at_R: Ints
    """Global positions of the reads, ascending."""
    silent_R: Floats
    """Explained latents that are inactive at a read, asked about or not."""

    @property
    def active_P(self) -> npt.NDArray[np.bool_]:
        return self.activation_P > 0

    @property
    def starts(self) -> Ints:
        """[R + 1]: read r has the pairs starts[r]:starts[r + 1]."""
        return np.searchsorted(self.read_P, np.arange(len(self.at_R) + 1))

    def at(self, read: int, starts: Ints) -> slice:
        """The pairs of a read."""
        return slice(int(starts[read]), int(starts[read + 1]))


def read_windows(simulate: Artifact) -> Windows:
    """Where was predicted."""
    arrays = simulate.arrays(0, "windows")
    return Windows(*(np.asarray(arrays[name], np.int64) for name in Windows._fields))


def read_pairs(simulate: Artifact, index: LatentIndex, reads: Ints, least_mass: float) -> Pairs:
    """The pairs at some reads (ascending) of a *simulate* or *values* artifact, with the truth in the context that was
    cached. An answer whose choices hold less than `least_mass` failed."""
    at_R = read_windows(simulate).at_R[reads]
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    explained = 0
    for shard, record in sorted(simulate.records.items()):
        status = simulate.table(shard, "latents").column("status").to_pylist()
        explained += status.count("ok")
        tiles = (name.removesuffix(".safetensors") for name in sorted(record.objects) if name.startswith("tile-"))
        columns += [_tile(simulate.arrays(shard, tile), reads, least_mass) for tile in tiles]
    if not columns:
        raise DataError("no latent was asked about", "see the status column of the explanations table")
    latent_P, read_P, expected_P, odds_P, weight_P = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order_P = np.lexsort((latent_P, read_P))
    codes = index.codes_of_rows(np.unique(at_R // index.context))
    codes = codes.select(np.isin(codes.token_N, at_R))
    latent_P, read_P = latent_P[order_P].astype(np.int64), read_P[order_P].astype(np.int64)
    activation_P = _truth(codes, latent_P, read_P, index.width)
    active_R = np.bincount(read_P[activation_P > 0], minlength=len(reads))
    return Pairs(
        latent_P, read_P, activation_P, expected_P[order_P].astype(np.float32),
        expit(odds_P[order_P].astype(np.float32)), weight_P[order_P].astype(np.float32), at_R,
        (explained - active_R).astype(np.float64),
    )  # fmt: skip


def _tile(arrays: Mapping[str, npt.NDArray[Any]], reads: Ints, least_mass: float) -> tuple[npt.NDArray[Any], ...]:
    """Latent, place of the read in `reads`, expected digit, log-odds and weight of a tile's pairs at `reads`."""
    latent_L = np.asarray(arrays["latent"], np.int64)
    if "indptr" not in arrays:
        expected_LR, odds_LR = read_signals(arrays["logprobs"][:, reads], least_mass)
        read_LR = np.broadcast_to(np.arange(len(reads)), expected_LR.shape)
        weight_P = np.ones(expected_LR.size, np.float32)
        return np.repeat(latent_L, len(reads)), read_LR.ravel(), expected_LR.ravel(), odds_LR.ravel(), weight_P
    indptr = np.asarray(arrays["indptr"], np.int64)
    latent_P = np.repeat(latent_L, indptr[1:] - indptr[:-1])
    read_P = np.asarray(arrays["read"], np.int64)
    place_P = np.minimum(np.searchsorted(reads, read_P), len(reads) - 1)
    kept_P = reads[place_P] == read_P
    expected_1P, odds_1P = read_signals(arrays["logprobs"][kept_P][None], least_mass)
    return latent_P[kept_P], place_P[kept_P], expected_1P[0], odds_1P[0], np.asarray(arrays["weight"])[kept_P]


def _truth(codes: RowCodes, latent_P: Ints, read_P: Ints, width: int) -> npt.NDArray[np.float32]:
    """Activations of pairs; tokens of `codes` are the reads."""
    line = np.repeat(np.arange(len(codes.token_N)), np.diff(codes.indptr))
    key = line * width + codes.latent
    order = np.argsort(key)
    key, value = key[order], codes.value[order]
    wanted_P = read_P * width + latent_P
    place_P = np.minimum(np.searchsorted(key, wanted_P), max(len(key) - 1, 0))
    if not len(key):
        return np.zeros(len(wanted_P), np.float32)
    return np.where(key[place_P] == wanted_P, value[place_P], 0).astype(np.float32)


def pairs_at_most(config: Config) -> int:
    """Pairs of a run's evaluation reads, as far as its configuration tells."""
    from nlsim.explain.stage import latents_at_most
    from nlsim.simulate.pool_stage import TYPICAL_ACTIVE

    settings = config.simulate
    shown = settings.window or config.corpus.context - 2
    reads = settings.evaluation_rows * (shown if settings.positions == "all" else 1)
    return reads * (latents_at_most(config) if settings.pool is None else settings.pool + TYPICAL_ACTIVE)
