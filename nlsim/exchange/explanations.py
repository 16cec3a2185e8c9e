"""Explanations of other tools: reading any of their forms, writing delphi's and Neuronpedia's."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlsim.errors import DataError, UsageError
from nlsim.foreign import json_of, reason

if TYPE_CHECKING:
    from nlsim.api.run import RunView

LARGEST = 4_000_000_000
"""Bytes that a packed file may unpack to."""
NUMBER = re.compile(r"[0-9]{1,12}")
LATENT = re.compile(r"(.*)_(?:latent|feature)([0-9]{1,12})")
"""delphi's names of files: MODULE_latent123; older versions wrote feature."""


def read_explanations(path: Path) -> dict[int, str]:
    """Latent → text, ascending, from a folder of delphi's text files, a Neuronpedia export (.json, .jsonl, .jsonl.gz)
    or `{"123": "text"}` as the published article has it. Of several explanations of a latent the first counts.

    Raises DataError for another form, and for a folder with several modules.
    """
    if path.is_dir():
        found = dict(latent_files(path))
        return {latent: _text(file) for latent, file in sorted(found.items())}
    value = read_json(path)
    if isinstance(value, dict):
        pairs: Iterator[tuple[Any, Any]] = iter(value.items())
    elif isinstance(value, list) and all(isinstance(row, dict) and "description" in row for row in value):
        pairs = ((row.get("index"), row["description"]) for row in value)
    else:
        raise DataError(f"{path} is no file of explanations", "give delphi's folder, a Neuronpedia export, or JSON")
    texts: dict[int, str] = {}
    for name, text in pairs:
        if not NUMBER.fullmatch(str(name)) or not isinstance(text, str):
            told = f"{path} explains {repr(name)[:50]} by {repr(text)[:50]}"
            raise DataError(told, "latents are whole numbers, explanations text")
        if text.strip():
            texts.setdefault(int(name), text.strip())
    return dict(sorted(texts.items()))


def latent_files(folder: Path) -> Iterator[tuple[int, Path]]:
    """Latent and file of every delphi file in a folder. Raises DataError when there is none, or several modules."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".txt", ".json"))
    found = [(match[1], int(match[2]), path) for path in files if (match := LATENT.fullmatch(path.stem))]
    modules = sorted({module for module, _, _ in found})
    if not modules:
        raise DataError(f"no delphi files in {folder}", "they are called MODULE_latent123.txt")
    if len(modules) > 1:
        raise DataError(f"{folder} is about several modules ({', '.join(modules[:3])})", "give a folder of one module")
    yield from ((latent, path) for _, latent, path in found)


def export_delphi(run: RunView, folder: Path) -> int:
    """Write each explanation to `folder`/MODULE_latent123.txt, a JSON string; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    module = module_of(run)
    rows = explained(run)
    for latent, text in rows.items():
        (folder / f"{module}_latent{latent}.txt").write_text(json.dumps(text, ensure_ascii=False), encoding="utf-8")
    return len(rows)


def export_neuronpedia(run: RunView, path: Path, model: str, source: str) -> int:
    """Write explanations as Neuronpedia's exports hold them, one JSON object per latent; returns how many.

    `.jsonl` and `.jsonl.gz` get a line each, anything else a list. `model` and `source` are Neuronpedia's names, e.g.
    gemma-2-2b and 20-gemmascope-res-16k. The score is the mean balanced accuracy over scorers, where there are any.
    """
    scores = mean_scores(run)
    about = {row["latent"]: row for row in run.explanations.to_pylist()}
    rows = []
    for latent, text in explained(run).items():
        row = {"modelId": model, "layer": source, "index": str(latent), "description": text}
        row |= {"typeName": f"nlsim_{about[latent]['method']}", "explanationModelName": about[latent]["model"]}
        rows.append(row | ({"score": scores[latent]} if latent in scores else {}))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    else:
        text = lines if path.suffix == ".jsonl" else json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    return len(rows)


def export_features(run: RunView, path: Path, model: str, source: str, most: int | None = None) -> int:
    """Write a feature list as SAELens opens it in Neuronpedia (`get_neuronpedia_quick_list`): the best-scored explained
    latents first, at most `most`; returns how many."""
    scores = mean_scores(run)
    ranked = sorted(explained(run), key=lambda latent: -scores.get(latent, 0.0))[:most]
    rows = [{"modelId": model, "layer": source, "index": str(latent)} for latent in ranked]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return len(rows)


def read_features(path: Path) -> list[int]:
    """Latents of a feature list, for `latents.ids`: SAELens' and Neuronpedia's objects with `index`, or numbers."""
    value = read_json(path)
    value = value.get("features", value) if isinstance(value, dict) else value
    rows = value if isinstance(value, list) else []
    numbers = [str(row.get("index") if isinstance(row, dict) else row) for row in rows]
    if not numbers or not all(NUMBER.fullmatch(number) for number in numbers):
        raise DataError(f"{path} is no list of features", 'give [{"modelId", "layer", "index"}, …] or [1, 2, …]')
    return list(dict.fromkeys(map(int, numbers)))


def explained(run: RunView) -> dict[int, str]:
    """Latent → text of the explanations that succeeded."""
    return {row["latent"]: row["text"] for row in run.explanations.to_pylist() if row["status"] == "ok"}


def mean_scores(run: RunView) -> Mapping[int, float]:
    """Latent → mean balanced accuracy over its scorers; none before `score` is done."""
    if not run.artifact("score").complete:
        return {}
    found: dict[int, list[float]] = {}
    for row in run.scores.to_pylist():
        if row["balanced_accuracy"] == row["balanced_accuracy"]:
            found.setdefault(row["latent"], []).append(row["balanced_accuracy"])
    return {latent: sum(values) / len(values) for latent, values in found.items()}


def module_of(run: RunView) -> str:
    """The hookpoint as a part of file names."""
    name = str(run.artifact("cache").json(0, "coder")["hookpoint"])
    return name.replace(" ", "").replace("/", "--")


def read_json(path: Path) -> Any:
    """JSON, JSON lines (as a list), either gzipped. Raises UsageError for no file, DataError for an unreadable one."""
    if not path.is_file():
        raise UsageError(f"no file {path}", "check the path")
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                data = packed.read(LARGEST + 1)
            if len(data) > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST / 1e9:.0f} GB")
        if ".jsonl" in path.suffixes:
            return [json_of(line) for line in data.decode().splitlines() if line.strip()]
        return json_of(data)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is not readable as JSON", reason(error)) from error


def _text(file: Path) -> str:
    value = read_json(file)
    if not isinstance(value, str):
        raise DataError(f"{file} holds {type(value).__name__}, not an explanation", "delphi writes a JSON string")
    return value.strip()
