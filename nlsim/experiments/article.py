"""The article's experiment: what does the subject lose when one layer's latents are simulated from explanations?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.calibrate.stage import Calibrate
from nlsim.corpus.stage import Tokens
from nlsim.errors import UsageError
from nlsim.experiments.interactive import interactive
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

    From `explain` to `reconstruct` once more for every kind, where it differs; continuations last, if there are any.
    """
    stages = [Tokens(), Cache(), Index(), *with_kinds(config, _of_one_kind)]
    report = Report(tuple(stage.name for stage in stages))
    return Pipeline("article", (*stages, report, *interactive(config, stages)))


def _of_one_kind(config: Config) -> list[Stage]:
    if config.simulate.pool is not None:
        raise UsageError("the experiment article asks about every latent", "leave simulate.pool out")
    return [Explain(), Score(), Simulate(config.simulate.show_score is not None), Calibrate(), Reconstruct()]
