"""Stage `report`: metrics.json, the tables, and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nlsim.pipeline.stage import Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config


class Report(Stage):
    """Everything a run found → `metrics.json`, `index.html`, `report.md`, `findings.txt`, tables as CSV. No torch."""

    name = "report"
    version = 2
    sections = ("name", "experiment", "kind", "kinds", "blog", "finetune", "continuations", "report")
    publishes: ClassVar[Mapping[str, str]] = {
        "metrics.json": "metrics.json",
        "index.html": "report/index.html",
        "report.md": "report/report.md",
        "tables.zip": "report/tables.zip",
    }

    def __init__(self, inputs: tuple[str, ...]) -> None:
        """`inputs`: all stages of the pipeline."""
        self.inputs = inputs

    def shards(self, config: Config) -> int:  # noqa: ARG002 - one page
        return 1

    def resources(self, config: Config) -> Resources:  # noqa: ARG002
        return Resources(memory_gb=4.0)

    def execute(self, context: StageContext) -> None:
        from nlsim.report.make import make

        make(context)
