"""delphi's activation caches: the files of one hookpoint, as delphi writes and reads them.

A folder holds `START_END.safetensors` for each range of latents (both ends included), or one file for all of them, with
`locations` [N, 3] (row, position, latent - START), `activations` f16 [N], mostly `tokens` [rows, context], and
`config.json`. nlsim adds `lengths` [rows] where rows end in padding, which delphi does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from nlsim.errors import DataError
from nlsim.foreign import json_of, local_path, reading, reason

CHUNK = 1 << 22
"""Entries read at a time."""
SMALL = 1 << 16


class Split(NamedTuple):
    """One file."""

    path: Path
    start: int
    """First latent."""


class Entries(NamedTuple):
    """Some activations."""

    row: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    latent: npt.NDArray[np.int64]
    """Number in the whole coder: the file's first latent has been added."""
    value: npt.NDArray[np.float32]


class DelphiCache:
    """A cache on disk, read a bounded number of entries at a time."""

    def __init__(self, folder: str | Path) -> None:
        """Raises DataError when there is no cache, naming what is missing."""
        self.folder = local_path(folder)
        self.splits = splits_of(self.folder)
        self.config: dict[str, Any] = {}
        settings = (self.folder if self.folder.is_dir() else self.folder.parent) / "config.json"
        if settings.is_file():
            try:
                self.config = json_of(settings.read_bytes())
            except ValueError as error:
                raise DataError(f"{settings} is not JSON", reason(error)) from error
            if not isinstance(self.config, dict):
                raise DataError(f"{settings} holds no settings", "it is no activation cache of delphi")

    def rows(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None:
        """Tokens [rows, context] and lengths [rows]; None where the cache was written without tokens."""
        with opened(self.splits[0].path) as file:
            names = set(file.keys())
            if "tokens" not in names:
                return None
            with reading(self.splits[0].path, "it is no activation cache of delphi"):
                tokens = whole_numbers(file.get_tensor("tokens"))
                if tokens.ndim != 2:
                    raise ValueError(f"tokens have shape {tokens.shape}, not rows × positions")
                longest = tokens.shape[1]
                if "lengths" not in names:
                    return tokens.astype(np.int32), np.full(len(tokens), longest, np.int32)
                lengths = whole_numbers(file.get_tensor("lengths"))
                if lengths.shape != tokens.shape[:1] or lengths.max(initial=0) > longest:
                    raise ValueError("lengths are not those of its rows")
                return tokens.astype(np.int32), lengths.astype(np.int32)

    def entries(self) -> Iterator[Entries]:
        """All activations, file by file. Raises DataError for arrays that are not a cache's."""
        for split in self.splits:
            with opened(split.path) as file:
                locations, activations = (file.get_slice(name) for name in ("locations", "activations"))
                total, *more = activations.get_shape() or [0, 0]
                if more or locations.get_shape() != [total, 3]:
                    raise DataError(f"{split.path}: locations are not {total} × 3", "it is no activation cache")
                for start in range(0, total, CHUNK):
                    stop = min(start + CHUNK, total)
                    with reading(split.path, "it is no activation cache of delphi"):
                        place = whole_numbers(locations[start:stop])
                        value = np.asarray(activations[start:stop]).astype(np.float32)
                    yield Entries(place[:, 0], place[:, 1], place[:, 2] + split.start, value)


def whole_numbers(array: object) -> npt.NDArray[np.int64]:
    """The array as int64. Raises ValueError for anything but whole numbers from 0 to 2³¹ - 1."""
    found = np.asarray(array)
    if found.dtype.kind not in "iu" or found.min(initial=0) < 0 or found.max(initial=0) >= 1 << 31:
        raise ValueError(f"it holds other numbers than whole ones from 0 on ({found.dtype})")
    return found.astype(np.int64)


class opened:  # noqa: N801 - a context manager, used like a function
    """A safetensors file with the two arrays of a cache; DataError when it is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file = safe_open(self.path, framework="numpy").__enter__()
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self.path} is damaged or was not downloaded whole ({reason})", "fetch it again"
            ) from error
        if missing := {"locations", "activations"} - set(self.file.keys()):
            raise DataError(f"{self.path} has no {', '.join(sorted(missing))}", "it is no activation cache of delphi")
        return self.file

    def __exit__(self, *error: object) -> None:
        self.file.__exit__(*error)


def splits_of(folder: Path) -> list[Split]:
    """The files of a cache in the order of their latents. Raises DataError for gaps between them, and for none."""
    if folder.is_file():
        return [Split(folder, 0)]
    named = {path: re.fullmatch(r"(\d+)_(\d+)", path.stem) for path in folder.glob("*.safetensors")}
    found = sorted((int(match[1]), int(match[2]), path) for path, match in named.items() if match)
    if not found:
        inside = sorted(path.name for path in folder.glob("*/") if any(path.glob("*.safetensors")))
        raise DataError(
            f"no activation cache in {folder}",
            f"give one hookpoint's folder: {', '.join(inside[:5])}"
            if inside
            else "give the folder with 0_….safetensors",
        )
    expected = 0
    for start, end, path in found:
        if start != expected:
            raise DataError(f"{folder} lacks latents {expected} to {start - 1}", f"{path.name} begins at {start}")
        expected = end + 1
    return [Split(path, start) for start, _, path in found]


def boundaries(width: int, files: int) -> list[tuple[int, int]]:
    """First and last latent of each file, as delphi divides them: evenly spaced real numbers, cut to whole ones."""
    edges = np.linspace(0, width, files + 1).astype(int).tolist()
    return [(start, end - 1) for start, end in pairwise(edges)]


def location_type(rows: int, latents: int) -> type[np.uint16 | np.uint32]:
    """The smaller of the two types that hold the numbers, as delphi chooses."""
    return np.uint16 if rows <= SMALL and latents <= SMALL else np.uint32
