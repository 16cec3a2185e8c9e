"""Stage `interactive`: the page of continuations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from nlsim.pipeline.stage import Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config


class Interactive(Stage):
    """continuations, explanations, scores, contexts → `interactive.html`. No torch."""

    name = "interactive"
    version = 2
    sections = ("name", "kind", "report")
    publishes: ClassVar[Mapping[str, str]] = {"interactive.html": "report/interactive.html"}

    def __init__(self, stages: Iterable[str]) -> None:
        """`stages`: names of those before it in the pipeline; it reads the explanations and scores of all kinds."""
        wanted = ("tokens", "cache", "index", "explain", "score", "continue")
        self.inputs = tuple(name for name in stages if name.partition("-")[0] in wanted)

    def shards(self, config: Config) -> int:  # noqa: ARG002 - one page
        return 1

    def resources(self, config: Config) -> Resources:  # noqa: ARG002
        return Resources(memory_gb=4.0)

    def execute(self, context: StageContext) -> None:
        from nlsim.report.interactive import make_page

        make_page(context)
