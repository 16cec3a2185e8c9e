"""A run to look at: its tables as Arrow, its latents one by one."""

from __future__ import annotations

from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from nlsim.errors import UsageError
from nlsim.pipeline.run import Run
from nlsim.pipeline.variant import of_kind

if TYPE_CHECKING:
    import pyarrow

    from nlsim.api.latent import Latents
    from nlsim.config import Config
    from nlsim.store.artifact import Artifact


def open_run(url: str) -> RunView:
    """Open the run in a folder or at s3://bucket/prefix, finished or not.

    Tables are `pyarrow.Table`s: `.to_pandas()` gives a DataFrame, `polars.from_arrow` takes them as they are. What a
    stage has not made yet raises IncompleteError naming the stage. Raises UsageError when there is no run.

        run = nlsim.open("runs/tiny")
        run.scores.to_pandas().groupby("scorer").balanced_accuracy.mean()
        run.latents[123].show()
    """
    return RunView(Run.open(url))


class RunView:
    """What a run has found, as one of its kinds of explanations sees it. Tables are read when they are first asked for
    and kept."""

    def __init__(self, run: Run, kind: str | None = None) -> None:
        """`kind`: one of `run.kinds`; the run's own without it."""
        self.run = run
        self.kind = run.config.kind if kind is None else kind
        """What the explanations looked at are called."""
        names = {stage.name: stage.name for stage in run.pipeline.stages}
        self._stages = of_kind(names, self.kind)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.run.url

    @property
    def name(self) -> str:
        """What its configuration calls it."""
        return self.config.name

    @property
    def config(self) -> Config:
        """What was carried out, every default spelled out."""
        return self.run.config.of_kind(self.kind)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The run's kinds of explanations, its own first."""
        return (self.run.config.kind, *self.run.config.kinds)

    def of_kind(self, kind: str) -> RunView:
        """The same run with another kind of explanations. Raises UsageError for one that it does not have."""
        if kind not in self.kinds:
            raise UsageError(f"{self.url} has no kind {kind!r}", f"its kinds are {', '.join(self.kinds)}")
        return RunView(self.run, kind)

    def artifact(self, stage: str) -> Artifact:
        """What a stage made: its records, arrays and tables, those of this kind where kinds differ."""
        return self.run.artifact(self._stages.get(stage, stage))

    def table(self, stage: str, name: str) -> pyarrow.Table:
        """Any table that a stage wrote, shards one after the other. Raises IncompleteError while shards are missing,
        UsageError for a stage that the run does not have, DataError for a table that the stage does not write."""
        return self.artifact(stage).tables(name)

    @cached_property
    def explanations(self) -> pyarrow.Table:
        """One row per chosen latent: latent, method, text, status, examples (global token positions), model."""
        return self.table("explain", "explanations").sort_by("latent")

    @cached_property
    def scores(self) -> pyarrow.Table:
        """One row per latent and scorer: counts, balanced accuracy with its interval, F1, AUC with its interval."""
        return self.table("score", "scores")

    @cached_property
    def examples(self) -> pyarrow.Table:
        """One row per example that a scorer asked about: where it is, the truth, the answer's probability."""
        return self.table("score", "examples")

    @cached_property
    def losses(self) -> pyarrow.Table:
        """One row per evaluation window and condition: cross entropy and KL in nats, top-1 agreement."""
        return self.table("reconstruct", "losses")

    @cached_property
    def metrics(self) -> pyarrow.Table:
        """Every number of the report: name, value, low, high, n, unit, and a column per part of its condition."""
        import pyarrow as pa

        rows = self.metric_rows
        keys = sorted({key for row in rows for key in row["condition"]})
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in ("name", "value", "low", "high")}
        columns |= {"n": [row["n"] for row in rows], "unit": [row["unit"] for row in rows]}
        for key in keys:
            values = [row["condition"].get(key) for row in rows]
            kinds = {type(value) for value in values if value is not None}
            mixed = len(kinds) > 1 and not kinds <= {int, float}
            columns[key] = [None if value is None else str(value) for value in values] if mixed else values
        return pa.table(columns)

    @property
    def metric_rows(self) -> list[dict[str, Any]]:
        """The same as the list in metrics.json (docs/metrics.md)."""
        self.artifact("report").require_complete()
        rows: list[dict[str, Any]] = self.artifact("report").json(0, "metrics")["metrics"]
        return rows

    @cached_property
    def documents(self) -> pyarrow.Table:
        """The texts the run read: document, name, split, tokens."""
        return self.table("tokens", "documents")

    @cached_property
    def latents(self) -> Latents:
        """The coder's latents: `run.latents[123]`; iterating gives those that the run explained."""
        from nlsim.api.latent import Latents

        return Latents(self)

    def progress(self) -> dict[str, tuple[int, int]]:
        """Stage → shards done, shards in all."""
        found = {}
        for stage in self.run.pipeline.stages:
            artifact = self.run.artifact(stage.name)
            artifact.refresh()
            found[stage.name] = (len(artifact.committed), artifact.shards)
        return found

    def __repr__(self) -> str:
        done = sum(done == shards for done, shards in self.progress().values())
        return f"<nlsim run {self.name} at {self.url}: {done} of {len(self.run.pipeline.stages)} stages complete>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(stage)}</td><td style='text-align:right'>{done:,} / {shards:,}</td></tr>"
            for stage, (done, shards) in self.progress().items()
        )
        head = "<tr><th>stage</th><th>shards</th></tr>"
        return f"<b>{escape(self.name)}</b> at <code>{escape(self.url)}</code><table>{head}{rows}</table>"
