"""Codes taken from an activation cache of delphi instead of running the models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.corpus.delphi import DelphiCache
from nlsim.errors import DataError
from nlsim.store.cache import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlsim.latents.arrays import IntArray
    from nlsim.latents.encode import Encoded
    from nlsim.store.artifact import Artifact


def file_rows(tokens: Artifact) -> IntArray:
    """The number that each row of the *tokens* artifact has in the token file it came from.

    Raises DataError when the text was not read from a token file: then nothing says which row is which.
    """
    names = tokens.table(0, "documents").column("name").to_pylist()
    numbers = [re.fullmatch(r"row:(\d+)", name) for name in names]
    if not all(numbers):
        raise DataError("cache.imported goes with token rows", "set corpus.source.kind to tokens and path to the cache")
    document = np.asarray(tokens.arrays(0, "rows")["document"], np.int64)
    return np.array([int(match[1]) for match in numbers if match], np.int64)[document]


def imported_codes(
    folder: str, rows: IntArray, length_R: IntArray, width: int, progress: Callable[[int], None] | None = None
) -> Encoded:
    """The codes of the cache's rows `rows`, of `length_R` tokens each: what `encode_rows` would have given.

    Position 0 of a row gets no code, as everywhere. Which positions are outliers a cache does not tell. `progress` is
    told the entries read. Raises DataError for numbers that tell of another coder or other tokens.
    """
    from nlsim.latents.encode import Encoded

    place = np.full(int(rows.max(initial=-1)) + 1, -1, np.int64)
    place[rows] = np.arange(len(rows))
    first_R = np.cumsum(length_R) - length_R
    kept: list[tuple[np.ndarray, ...]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float16))]
    seen = 0
    for entry in DelphiCache(folder).entries():
        _check(folder, entry.latent, entry.value, width)
        mine = (entry.row < len(place)) & (entry.position > 0)
        mine[mine] = place[entry.row[mine]] >= 0
        row, position = place[entry.row[mine]], entry.position[mine]
        if (position >= length_R[row]).any():
            raise DataError(f"{folder} has activations beyond the ends of rows", "its tokens are not corpus.source")
        token = first_R[row] + position
        kept.append((token, entry.latent[mine], entry.value[mine].astype(np.float16)))
        seen += len(entry.value)
        if progress is not None:
            progress(seen)
    token, latent, value = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    order = np.lexsort((latent, -value.astype(np.float32), token))
    indptr = np.searchsorted(token[order], np.arange(int(length_R.sum()) + 1))
    ordered: npt.NDArray[np.uint16] | npt.NDArray[np.uint32] = latent[order].astype(np.uint32)
    if width <= 1 << 16:
        ordered = ordered.astype(np.uint16)
    return Encoded(ordered, value[order], indptr.astype(np.int64), np.zeros(0, np.int64), 0)


def import_identity(folder: str) -> dict[str, str]:
    """Digests of the cache's files."""
    return {f"imported/{split.path.name}": file_sha256(Path(split.path)) for split in DelphiCache(folder).splits}


def _check(folder: str, latent: IntArray, value: np.ndarray, width: int) -> None:
    if len(latent) and int(latent.max()) >= width:
        raise DataError(f"{folder} has latent {latent.max()}, the coder has {width}", "it was made with another coder")
    if not np.isfinite(value).all():
        raise DataError(f"{folder} has activations that are not finite", "make the cache again")
    if (value < 0).any():
        raise DataError(f"{folder} has negative activations", "nlsim's coders have none; it was made with another kind")
