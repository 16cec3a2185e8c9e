"""Every number of a run as one tidy list, and finding one of them again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row
from nlsim.pipeline.variant import of_kind
from nlsim.reconstruct.losses import loss_metrics
from nlsim.report.tables import Number

if TYPE_CHECKING:
    import pyarrow

    from nlsim.config import Config
    from nlsim.store.artifact import Artifact


class Metrics:
    """The rows of metrics.json, to be asked by name, condition and kind of explanations (None: the run's own)."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)

    def all(self, name: str, kind: str | None = None, **condition: Any) -> Iterator[Row]:
        """Rows called `name` whose condition has (at least) the given entries."""
        for row in self.rows:
            found = row["condition"]
            if row["name"] == name and found.get("kind") == kind and condition.items() <= found.items():
                yield row

    def row(self, name: str, kind: str | None = None, **condition: Any) -> Row | None:
        """The first such row."""
        return next(self.all(name, kind, **condition), None)

    def number(self, name: str, kind: str | None = None, **condition: Any) -> Number | None:
        """Its value and interval, None where nothing of the kind was run."""
        row = self.row(name, kind, **condition)
        return None if row is None else as_number(row)


def as_number(row: Row) -> Number:
    """Value and interval of a metric row."""
    return Number(*(math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high")))


def gather(config: Config, inputs: Mapping[str, Artifact]) -> Metrics:
    """All metrics of a run: counts of latents, scores, identification and calibration, losses; then those of its kinds,
    each with the condition `kind`."""
    rows = _of_one_kind(config, inputs)
    for kind in config.kinds:
        for row in _of_one_kind(config, of_kind(inputs, kind)):
            rows.append({**row, "condition": {**row["condition"], "kind": kind}})
    return Metrics(rows)


def _of_one_kind(config: Config, inputs: Mapping[str, Artifact]) -> list[Row]:
    settings = config.reconstruct
    rows = [*latent_metrics(inputs["explain"].tables("explanations")), *score_metrics(inputs["score"].tables("scores"))]
    rows += inputs["calibrate"].json(0, "metrics")
    rows += loss_metrics(inputs["reconstruct"].tables("losses"), settings.draws, settings.level)
    return rows


def latent_metrics(explanations: pyarrow.Table) -> list[Row]:
    """How many latents there are, by what became of their explanation."""
    status = explanations.column("status").to_pylist()
    counts = {name: status.count(name) for name in sorted(set(status))}
    return [
        metric_row("latents", len(status), "latents", {}, len(status)),
        *(metric_row("latents", n, "latents", {"status": name}, len(status)) for name, n in counts.items()),
    ]


def score_metrics(scores: pyarrow.Table) -> list[Row]:
    """Mean of each score over latents (latents resampled) and the share of answers that failed, by scorer."""
    rows = []
    names = scores.column("scorer").to_pylist()
    for scorer in sorted(set(names)):
        mine = np.array([name == scorer for name in names])
        bootstrap = Bootstrap(np.arange(int(mine.sum())))
        for name in ("balanced_accuracy", "auc", "f1"):
            value = scores.column(name).to_numpy(zero_copy_only=False).astype(np.float64)[mine]
            known = np.isfinite(value)
            found = Bootstrap(np.arange(int(known.sum()))).mean(value[known])
            rows.append(metric_row(name, found, "share", {"scorer": scorer}))
        asked = sum(scores.column(name).to_numpy().astype(np.float64)[mine] for name in ("n_pos", "n_neg"))
        failed = scores.column("failed").to_numpy().astype(np.float64)[mine]
        rows.append(metric_row("failed", bootstrap.ratio(failed, asked), "share", {"scorer": scorer}))
    return rows
