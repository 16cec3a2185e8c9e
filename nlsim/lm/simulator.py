"""The simulator that comes with nlsim, and how a model folder says that it is a simulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlsim.lm.config import LmConfig

CARD = "simulator.json"
"""File in the model folder that makes it a simulator: how it was trained and how good it is."""


def is_simulator(lm: LmConfig) -> bool:
    """Whether the configured language model is a simulator of ours, judged by its folder."""
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.locate import locate

    if not lm.model or lm.endpoint.base_url:
        return False
    location = locate(SubjectConfig(model=lm.model, revision=lm.revision))
    return location.local and (Path(location.path) / CARD).is_file()


def read_card(folder: Path) -> dict[str, Any]:
    """How a simulator was trained."""
    card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return card
