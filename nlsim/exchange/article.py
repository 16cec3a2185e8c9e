"""The result files of the published article, read for re-analysis.

`explanations_*.json`, `scores_*.csv`, `<sentence>all_data.csv` (every latent's prediction for one sentence) and
`ce_loss_<fraction>….json` (three lists of losses by sentence).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.errors import DataError
from nlsim.exchange.explanations import read_explanations
from nlsim.exchange.scores import read_scores
from nlsim.foreign import json_of, reason
from nlsim.metrics.intervals import Bootstrap, Estimate

if TYPE_CHECKING:
    import pyarrow

Floats = npt.NDArray[np.float64]
LOSSES = ("loss_base", "loss_reconstruction", "loss_prediction")
NAME = re.compile(r"ce_loss_(-?[\d.]+?)((?:_(?:sample|random|zero_out|normalized|cheating))*)")
COLUMNS = {"feature": "latent", "predicted_quantile": "digit", "activation": "true", "order": "rank"}
COLUMNS |= {"expected_quantile": "expected", "predicted_activation": "predicted"}


class Published(NamedTuple):
    """What was found; tables are empty where a kind of file is missing."""

    explanations: dict[str, dict[int, str]]
    """Name of the file → latent → text."""
    scores: dict[str, pyarrow.Table]
    predictions: pyarrow.Table
    """sentence, latent, true, expected (digit, NaN: failed), digit (sampled; -1: failed), predicted (as published)."""
    losses: pyarrow.Table
    """condition, fraction, sentence (place in the published list), and the three losses in nats."""


class Reanalysis(NamedTuple):
    """One published condition, its sentences paired."""

    condition: str
    sentences: int
    without: int
    """Sentences left out, all of whose predictions had failed: they would pass for ablation."""
    base: float
    prediction: float
    """Means, nats per token."""
    difference: Estimate
    """Prediction less reconstruction: mean over sentences, interval by resampling them."""
    median: float
    """Median of the same differences: a few sentences of hundreds of nats rule the mean."""


def read_article(folder: Path) -> Published:
    """All result files in a folder. Raises DataError when there are none, or for one of another form."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    explained = {f.stem: read_explanations(f) for f in files if re.fullmatch(r"explanations_.*\.json", f.name)}
    scored = {f.stem: read_scores(f) for f in files if re.fullmatch(r"scores_.*\.csv", f.name)}
    sentences = {int(m[1]): f for f in files if (m := re.fullmatch(r"(\d+)all_data\.csv", f.name))}
    losses = {f: m for f in files if f.suffix == ".json" and (m := NAME.fullmatch(f.stem))}
    if not (explained or scored or sentences or losses):
        raise DataError(
            f"no published results in {folder}", "explanations_*.json, scores_*.csv, <n>all_data.csv or ce_loss_*.json"
        )
    return Published(explained, scored, _predictions(sentences), _losses(losses))


def reanalyse(found: Published) -> Iterator[Reanalysis]:
    """Paired differences of every loss condition. Needs no assumption about what the published scripts averaged.

    Where predictions are there too, sentences whose predictions all failed are left out: in the published runs whole
    blocks of them did.
    """
    failed = _failed_sentences(found.predictions)
    frame = found.losses.to_pandas()
    for condition, rows in frame.groupby("condition", sort=False):
        heard = ~rows["sentence"].isin(failed)
        base, reconstruction, prediction = (rows.loc[heard, name].to_numpy(np.float64) for name in LOSSES)
        moved = prediction - reconstruction
        if len(moved):
            mean = Bootstrap(np.arange(len(moved))).mean(moved)
            means = float(base.mean()), float(prediction.mean())
            yield Reanalysis(str(condition), len(moved), int((~heard).sum()), *means, mean, float(np.median(moved)))


def _failed_sentences(predictions: pyarrow.Table) -> set[int]:
    """Sentences all of whose digits are -1."""
    if not len(predictions):
        return set()
    best = predictions.group_by("sentence").aggregate([("digit", "max")]).to_pylist()
    return {row["sentence"] for row in best if row["digit_max"] < 0}


def _predictions(files: dict[int, Path]) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.csv

    parts = []
    for sentence, path in sorted(files.items()):
        try:
            table = pyarrow.csv.read_csv(path)
            table = table.select(list(COLUMNS)).rename_columns(list(COLUMNS.values()))
            expected = table["expected"].to_numpy().astype(np.float64)
            columns: dict[str, Any] = {"sentence": pa.array([sentence] * len(table), pa.int64())}
            columns |= {name: table[name].cast(pa.int64()) for name in ("latent", "digit", "rank")}
            columns |= {"true": table["true"].cast(pa.float64()), "expected": np.where(expected < 0, np.nan, expected)}
            parts.append(pa.table(columns | {"predicted": table["predicted"].cast(pa.float64())}).sort_by("latent"))
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            raise DataError(f"{path} is no all_data.csv of the article", reason(error)) from error
    return pa.concat_tables(parts) if parts else pa.table({})


def _losses(files: dict[Path, re.Match[str]]) -> pyarrow.Table:
    import pyarrow as pa

    parts = []
    for path, name in files.items():
        try:
            value = json_of(path.read_bytes())
            lists = {key: np.array(value[key], np.float64) for key in LOSSES}
            if any(values.ndim != 1 for values in lists.values()):
                raise ValueError("they are no lists of numbers")
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path} does not hold the lists {', '.join(LOSSES)}", reason(error)) from error
        counts = {len(values) for values in lists.values()}
        if len(counts) > 1:
            raise DataError(f"{path} has lists of different lengths", "it was cut off while being written")
        n = counts.pop()
        condition = path.stem.removeprefix("ce_loss_")
        columns: dict[str, Any] = {"condition": [condition] * n, "fraction": [float(name[1])] * n, "sentence": range(n)}
        parts.append(pa.table({key: pa.array(list(values)) for key, values in {**columns, **lists}.items()}))
    return pa.concat_tables(parts) if parts else pa.table({})
