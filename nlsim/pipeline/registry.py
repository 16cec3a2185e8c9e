"""Which experiment a configuration asks for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.pipeline import Pipeline


def pipeline_of(config: Config) -> Pipeline:
    """The pipeline of `config.experiment`: what the function of that name in the module of that name makes."""
    made: Pipeline = resolve_name(f"nlsim.experiments.{config.experiment}:{config.experiment}")(config)
    return made
