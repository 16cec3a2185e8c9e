"""Which experiment a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.errors import UsageError

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.pipeline import Pipeline


def pipeline_of(config: Config) -> Pipeline:
    """The pipeline of `config.experiment`."""
    if config.experiment == "article":
        from nlsim.experiments.article import article

        return article(config)
    if config.experiment == "blog":
        from nlsim.experiments.blog import blog

        return blog(config)
    if config.experiment == "finetune":
        from nlsim.experiments.finetune import finetune

        return finetune(config)
    raise UsageError(f"no experiment is called {config.experiment!r}", "there are: article, blog, finetune")
