"""Which experiment a configuration asks for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from nlsim.errors import UsageError

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.pipeline import Pipeline


def pipeline_of(config: Config) -> Pipeline:
    """The pipeline of `config.experiment`: what the function of that name in the module of that name makes.

    Raises UsageError for a split that a stage reads and the corpus gives no rows.
    """
    made: Pipeline = resolve_name(f"nlsim.experiments.{config.experiment}:{config.experiment}")(config)
    for stage in made.stages:
        for split in stage.splits:
            if not getattr(config.corpus.rows, split):
                raise UsageError(
                    f"corpus.rows.{split} is 0, but {stage.name} reads that split", f"raise corpus.rows.{split}"
                )
    return made
