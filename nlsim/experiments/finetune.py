"""Teaching a language model to simulate, as a run like any other: resumed, planned, on a cluster alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.corpus.stage import Tokens
from nlsim.explain.stage import Explain
from nlsim.finetune.stage import Examples, Judge, Train
from nlsim.latents.cache_stage import Cache
from nlsim.latents.index_stage import Index
from nlsim.pipeline.pipeline import Pipeline
from nlsim.report.stage import Report

if TYPE_CHECKING:
    from nlsim.config import Config


def finetune(_config: Config) -> Pipeline:
    """tokens → cache → index → explain → examples → train → judge → report. The adapter is published to the run's
    folder `adapter`, from where another run's kind takes it (`simulate.lm.adapter`)."""
    stages = (Tokens(), Cache(), Index(), Explain(), Examples(), Train(), Judge())
    return Pipeline("finetune", (*stages, Report(tuple(stage.name for stage in stages))))
