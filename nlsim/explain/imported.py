"""Explanations made elsewhere: a JSON, Parquet or CSV file."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from nlsim.errors import DataError, UsageError
from nlsim.explain.explainer import Evidence, Explanation
from nlsim.foreign import local_path, reading, well_formed

_TEXTS = ("text", "explanation")


class ImportedExplainer:
    """Looks latents up in a file; those it does not name have the status `missing`."""

    facts: Mapping[str, str] = MappingProxyType({})

    def __init__(self, evidence: Evidence) -> None:
        self.path = import_path(evidence.config.explain.path)
        self.texts = read_texts(self.path, evidence.index.width)

    @property
    def model(self) -> str:
        """The file's name."""
        return self.path.name

    def explain(self, latents: Sequence[int]) -> Iterator[Explanation]:
        """The file's text for each latent. An empty one is a failed explanation."""
        for latent in latents:
            text = self.texts.get(int(latent))
            if text is None:
                yield Explanation(int(latent), "", "missing")
            else:
                yield Explanation(int(latent), text, "ok" if text else "failed")


def import_path(path: str | None) -> Path:
    """The configured file. Raises UsageError when none is, DataError when it is not there."""
    if not path:
        raise UsageError("explain.method is import but explain.path is not set", "name a .json, .parquet or .csv file")
    file = local_path(path)
    if not file.is_file():
        raise DataError(f"no explanations at {file}", "check explain.path")
    return file


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_texts(path: Path, width: int) -> dict[int, str]:
    """Latent → text. JSON: `{"<latent>": "text"}` or a list of objects; Parquet and CSV: columns latent and text.

    Raises DataError for another form, and for latents that are repeated, no whole number, or not in [0, `width`).
    """
    reader = {".json": _json, ".parquet": _parquet, ".csv": _csv}.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is no kind of explanation file that is known", "use .json, .parquet or .csv")
    with reading(path, "see docs/explain.md for its form", "explanations"):
        pairs = list(reader(path))
    texts: dict[int, str] = {}
    for name, text in pairs:
        latent = _number(name, path)
        if latent in texts:
            raise DataError(f"{path} explains latent {latent} twice", "keep one of the two")
        if not 0 <= latent < width:
            raise DataError(f"{path} explains latent {latent}", f"the coder has {width} latents, numbered from 0")
        texts[latent] = " ".join(well_formed(str(text or "")).split())
    return texts


def _number(name: object, path: Path) -> int:
    try:
        if isinstance(name, float) and name != int(name):
            raise ValueError
        return int(str(name).strip()) if not isinstance(name, float) else int(name)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path} names a latent {repr(name)[:50]}", "latents are whole numbers") from error


def _field(row: dict[str, object]) -> object:
    for name in _TEXTS:
        if name in row:
            return row[name]
    raise KeyError("column text")


def _json(path: Path) -> Iterator[tuple[object, object]]:
    def unrepeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise DataError(f"{path} explains latent {repeated} twice", "keep one of the two")
        return dict(pairs)

    value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unrepeated)
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        for row in value:
            yield row["latent"], _field(row)
    else:
        raise ValueError("neither an object nor a list")


def _parquet(path: Path) -> Iterator[tuple[object, object]]:
    import pyarrow.parquet

    for row in pyarrow.parquet.read_table(path).to_pylist():
        yield row["latent"], _field(row)


def _csv(path: Path) -> Iterator[tuple[object, object]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["latent"], _field(dict(row))
