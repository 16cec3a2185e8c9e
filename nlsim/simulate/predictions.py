"""Reading what the *simulate* stage stored."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.latents.arrays import cuts
from nlsim.simulate.windows import Windows

if TYPE_CHECKING:
    from nlsim.store.artifact import Artifact

Ints = npt.NDArray[np.int64]


class Tile(NamedTuple):
    """Predictions of some latents at all reads."""

    latent_L: Ints
    logprobs_LRC: npt.NDArray[np.float16]
    """Log-probabilities of the choices over the full vocabulary; C = 10 digits, or 2 (inactive, active)."""
    mass_LR: npt.NDArray[np.float16]
    """What the choices hold together."""


class Predictions:
    """The predictions of a run: every chosen latent either has a row of them or a status that says why not."""

    def __init__(self, simulate: Artifact) -> None:
        self._artifact = simulate

    @cached_property
    def windows(self) -> Windows:
        """Where was predicted."""
        arrays = self._artifact.arrays(0, "windows")
        return Windows(*(np.asarray(arrays[name], np.int64) for name in Windows._fields))

    @cached_property
    def status(self) -> dict[int, str]:
        """Every chosen latent → `ok`, or why it has no predictions (see `explainer.Status`)."""
        table = self._artifact.tables("latents")
        return dict(zip(table.column("latent").to_pylist(), table.column("status").to_pylist(), strict=True))

    @cached_property
    def latents(self) -> Ints:
        """Latents with predictions, ascending."""
        return np.array(sorted(latent for latent, status in self.status.items() if status == "ok"), np.int64)

    @cached_property
    def shuffled(self) -> Ints:
        """Beside each of `latents`, the one whose explanation it gets in the shuffled control: never its own.

        The prompt holds nothing of a latent but its explanation, so the predictions for latent i under the explanation
        of latent j *are* those stored for j: the control is a permutation of what is there.
        """
        return np.asarray(self._artifact.arrays(0, "shuffled")["latent"], np.int64)

    def tiles(self) -> Iterator[Tile]:
        """All predictions, a tile at a time, ascending latents."""
        for shard, record in sorted(self._artifact.records.items()):
            for name in sorted(name for name in record.objects if name.startswith("tile-")):
                arrays = self._artifact.arrays(shard, name.removesuffix(".safetensors"))
                yield Tile(np.asarray(arrays["latent"], np.int64), arrays["logprobs"], arrays["mass"])

    def of(self, latent: int) -> Tile:
        """One latent's predictions, by ranged reads of its tile alone. Raises KeyError for one without predictions."""
        if self.status.get(latent) != "ok":
            raise KeyError(latent)
        known = sorted(self.status)
        edges = cuts(len(known), self._artifact.shards)  # a shard is a range of the chosen latents
        shard = int(np.searchsorted(edges, known.index(latent), "right")) - 1
        for name in sorted(name for name in self._artifact.record(shard).objects if name.startswith("tile-")):
            tile = name.removesuffix(".safetensors")
            place = np.flatnonzero(self._artifact.array(shard, tile, "latent") == latent)
            if len(place):
                start = int(place[0])
                parts = (self._artifact.array(shard, tile, key, start, start + 1) for key in ("logprobs", "mass"))
                return Tile(np.array([latent], np.int64), *parts)
        raise KeyError(latent)

    def read(self, latents: Ints) -> npt.NDArray[np.float16]:
        """[len(latents), reads, choices] in the given order; raises KeyError for a latent without predictions."""
        where = {int(latent): place for place, latent in enumerate(latents)}
        missing = set(where) - set(self.latents.tolist())
        if missing:
            raise KeyError(min(missing))
        made: npt.NDArray[np.float16] | None = None
        for tile in self.tiles():
            if made is None:
                made = np.empty((len(latents), *tile.logprobs_LRC.shape[1:]), np.float16)
            for i, latent in enumerate(tile.latent_L.tolist()):
                if latent in where:
                    made[where[latent]] = tile.logprobs_LRC[i]
        return made if made is not None else np.empty((0, len(self.windows.at_R), 0), np.float16)


def derangement(count: int, seed: int) -> Ints:
    """A random permutation of `count` things in which none stays in place; of a single one there is none, it stays.

    Sattolo's algorithm: uniform among the permutations that are one cycle.
    """
    rng = np.random.default_rng([seed, 7])
    order = np.arange(count)
    for i in range(count - 1, 0, -1):
        j = int(rng.integers(i))
        order[i], order[j] = order[j], order[i]
    return order
