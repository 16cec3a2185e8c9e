"""The article's experiment: what does the subject lose when one layer's latents are simulated from explanations?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.calibrate.stage import Calibrate
from nlsim.corpus.stage import Tokens
from nlsim.explain.stage import Explain
from nlsim.latents.cache_stage import Cache
from nlsim.latents.index_stage import Index
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.variant import with_kinds
from nlsim.reconstruct.stage import Reconstruct
from nlsim.report.stage import Report
from nlsim.score.stage import Score
from nlsim.simulate.stage import Simulate

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.stage import Stage


def article(config: Config) -> Pipeline:
    """tokens → cache → index → explain → score → simulate → calibrate → reconstruct → report.

    From `explain` to `reconstruct` once more for every kind, where it differs.
    """
    stages = [Tokens(), Cache(), Index(), *with_kinds(config, _of_one_kind)]
    return Pipeline("article", (*stages, Report(tuple(stage.name for stage in stages))))


def _of_one_kind(_config: Config) -> list[Stage]:
    return [Explain(), Score(), Simulate(), Calibrate(), Reconstruct()]
