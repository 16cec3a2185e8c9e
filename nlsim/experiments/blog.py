"""The blog's experiments: how many latents are needed, which are found from their explanations, and what that gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.blog.stage import Help, Identify, Limits
from nlsim.calibrate.stage import Calibrate
from nlsim.corpus.stage import Tokens
from nlsim.experiments.interactive import interactive
from nlsim.explain.stage import Explain
from nlsim.latents.cache_stage import Cache
from nlsim.latents.index_stage import Index
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.variant import of_kind, with_kinds
from nlsim.report.stage import Report
from nlsim.score.stage import Score
from nlsim.simulate.pool_stage import SimulatePool, Values
from nlsim.simulate.stage import Simulate

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.stage import Stage


def blog(config: Config) -> Pipeline:
    """tokens → cache → index → explain → score → simulate → identify, the last four for every kind; limits; help;
    report; continuations last, if there are any.

    Where every latent is asked about there is `calibrate` too; where `simulate` asks only whether a latent is active,
    `values` asks how strong the active ones are.
    """
    stages = [Tokens(), Cache(), Index(), Limits(), *with_kinds(config, _of_one_kind)]
    names = {stage.name: stage.name for stage in stages}
    simulate = dict.fromkeys(of_kind(names, kind)["simulate"] for kind in (config.kind, *config.kinds))
    stages.append(Help(tuple(simulate)))
    report = Report(tuple(stage.name for stage in stages))
    return Pipeline("blog", (*stages, report, *interactive(config, stages)))


def _of_one_kind(config: Config) -> list[Stage]:
    settings = config.simulate
    scored, digits = settings.show_score is not None, settings.prompt == "digit"
    everything: list[Stage] = [Simulate(scored), Calibrate()]
    return [
        Explain(),
        Score(),
        *(everything if settings.pool is None else [SimulatePool(scored)]),
        *([] if digits else [Values(scored)]),
        Identify(values=not digits),
    ]
