"""Scores of other tools: delphi's records of examples, both ways, and the published article's table."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nlsim.errors import DataError, UsageError
from nlsim.exchange.explanations import latent_files, module_of, read_json
from nlsim.foreign import reading
from nlsim.score.questions import Question
from nlsim.score.results import Answered, score_table

if TYPE_CHECKING:
    import pyarrow

    from nlsim.api.run import RunView

FOLDERS = {
    "detection": "detection",
    "recall": "detection",
    "fuzz": "fuzzing",
    "fuzzing": "fuzzing",
    "embedding": "embedding",
}
"""delphi's name of a scorer's folder → ours."""


def read_scores(path: Path) -> pyarrow.Table:
    """A table of scores (see `score.results.score_table`): from delphi's folder of scorers' folders, from one of these,
    or from the article's CSV, which knows balanced accuracies alone.

    Answers that failed count as failed, in none of the rates (mistake 24 counted them as wrong, or lost a whole batch).
    """
    if path.suffix == ".csv":
        return _article_scores(path)
    if not path.is_dir():
        raise UsageError(f"no folder of scores at {path}", "give delphi's scores folder, or the article's scores_….csv")
    inside = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and folder.name in FOLDERS]
    folders = inside or ([path] if path.name in FOLDERS else [])
    if not folders:
        raise DataError(f"{path} has no scorer's folder", f"delphi calls them {', '.join(sorted(FOLDERS))}")
    records = []
    for folder in folders:
        for latent, file in latent_files(folder):
            with reading(file, "it is no score of delphi"):
                records.append(_record(latent, FOLDERS[folder.name], file))
    table, believed = (score_table(reading) for reading in zip(*records, strict=True))
    for name in ("auc", "auc_low", "auc_high"):
        table = table.set_column(table.schema.get_field_index(name), name, believed[name])
    return table


def export_scores(run: RunView, folder: Path) -> int:
    """Write every example of every scorer as delphi's records, `folder`/SCORER/MODULE_latent123.txt; returns how many
    files. Texts are the run's own; `distance` is the strength decile, 1 the strongest, -1 for silent contexts."""
    index, pieces, module = run.latents.index, run.latents.pieces, module_of(run)
    grouped: dict[tuple[str, int], list[dict[str, Any]]] = {}
    latent, active = -1, None
    for row in run.examples.sort_by("latent").to_pylist():
        at = row["row"] * index.context + row["start"] + np.arange(row["length"])
        if active is None or row["latent"] != latent:
            latent, active = row["latent"], index.activations(row["latent"])
        value = np.zeros(row["length"], np.float32)
        mine = np.isin(active.token, at)
        value[active.token[mine] - at[0]] = active.value[mine]
        probability = row["probability"]
        failed = probability is None or math.isnan(probability)
        prediction = None if failed else probability >= 0.5
        grouped.setdefault((row["scorer"], latent), []).append(
            {
                "str_tokens": pieces.strings(index.rows.ids(at)),
                "activations": value.tolist(),
                "distance": row["quantile"] + 1 if row["quantile"] >= 0 else -1,
                "activating": row["truth"],
                "prediction": prediction,
                "highlighted": bool(row["marked"]),
                "probability": None if failed else probability,
                "correct": None if failed else prediction == row["truth"],
            }
        )
    names = {"detection": "detection", "fuzzing": "fuzz"}
    for (scorer, number), records in grouped.items():
        file = folder / names.get(scorer, scorer) / f"{module}_latent{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return len(grouped)


class _Record(NamedTuple):
    """One file of records, under two readings."""

    decided: Answered
    """By what the model said: the counts and rates."""
    believed: Answered
    """By its probabilities, where delphi noted them: the AUC."""


def _record(latent: int, scorer: str, file: Path) -> _Record:
    records = read_json(file)
    if not isinstance(records, list):
        raise DataError(f"{file} holds no list of examples", "it is no score of delphi")
    questions, said, likely = [], [], []
    for record in records:
        truth = record.get("activating", record.get("ground_truth"))  # older versions called it ground_truth
        if not isinstance(truth, bool | int):
            raise DataError(f"{file} has an example without its truth", "it is no score of delphi")
        questions.append(Question(-1, 0, record.get("str_tokens", []), (), bool(truth), record.get("distance", -1)))
        prediction, probability = record.get("prediction"), record.get("probability")
        failed = prediction is None or prediction == -1
        said.append(math.nan if failed else float(prediction))
        likely.append(math.nan if failed else float(prediction if probability is None else probability))
    return _Record(*(Answered(latent, scorer, questions, np.array(values)) for values in (said, likely)))


def _article_scores(path: Path) -> pyarrow.Table:
    """`feature,balanced_accuracy`; what it does not say is null."""
    import pyarrow as pa

    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["feature"]), float(row["balanced_accuracy"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} has no columns feature and balanced_accuracy", "give the article's CSV") from error
    empty = score_table([])
    given = {
        "latent": pa.array([latent for latent, _ in rows], pa.int64()),
        "scorer": pa.array(["detection"] * len(rows), pa.string()),
        "balanced_accuracy": pa.array([value for _, value in rows], pa.float64()),
    }
    return pa.table({f.name: given.get(f.name, pa.nulls(len(rows), f.type)) for f in empty.schema}, schema=empty.schema)
