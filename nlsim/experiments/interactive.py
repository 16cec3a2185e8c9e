"""Continuations and the page that shows them, at the end of any experiment whose configuration asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nlsim.continuations.stage import Continue
from nlsim.report.interactive_stage import Interactive

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.stage import Stage


def interactive(config: Config, stages: Iterable[Stage]) -> list[Stage]:
    """`continue` and `interactive`, reading from `stages`; nothing without prompts (`continuations`)."""
    if not config.continuations.prompts_at_most:
        return []
    names = [stage.name for stage in stages]
    return [Continue(names), Interactive([*names, Continue.name])]
