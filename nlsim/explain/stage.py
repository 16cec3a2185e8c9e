"""Stage `explain`: a text for every chosen latent. A shard is a range of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config

GUESSED_WIDTH = 32_768
"""Latents where a plan cannot know how many there are."""


class Explain(Stage):
    """index → table `explanations` (see `table.explanation_table`): every chosen latent once, failures included."""

    name: ClassVar[str] = "explain"
    sections: ClassVar[tuple[str, ...]] = ("explain", "latents", "seed")
    inputs: ClassVar[tuple[str, ...]] = ("tokens", "cache", "index")

    def shards(self, config: Config) -> int:
        return config.explain.shards

    def resources(self, config: Config) -> Resources:
        if config.explain.method != "llm":
            return Resources(memory_gb=4.0)
        return Resources(image="model", cpus=2.0, memory_gb=16.0, gpus=int(config.lm.device.startswith("cuda")))

    def estimate(self, config: Config) -> Estimate:
        return Estimate(bytes=latents_at_most(config) * 500)

    def identity(self, config: Config) -> Mapping[str, str]:
        if config.explain.method == "import":
            from nlsim.explain.imported import file_digest, import_path

            return {"explanations": file_digest(import_path(config.explain.path))}
        if config.explain.method == "llm":
            from nlsim.base import digest, fingerprint_view

            return {"lm": digest(fingerprint_view(config.lm))}
        return {}

    def execute(self, context: StageContext) -> None:
        from nlsim.explain.explainer import Evidence, Explanation, build_explainer
        from nlsim.explain.table import explanation_table
        from nlsim.latents.arrays import cuts
        from nlsim.latents.index import LatentIndex
        from nlsim.latents.select import select_latents

        config = context.config
        index = LatentIndex(context.inputs["tokens"], context.inputs["cache"], context.inputs["index"])
        chosen = select_latents(config.latents, index.table, config.seed)
        first, last = cuts(len(chosen), context.shards)[context.shard : context.shard + 2]
        mine = [int(latent) for latent in chosen[first:last]]
        explainer = build_explainer(Evidence(config, context.inputs["tokens"], index))
        found: list[Explanation] = []
        for explanation in explainer.explain(mine):
            found.append(explanation)
            context.progress(len(found), len(mine), "latents")
        context.output.table("explanations", explanation_table(found, config.explain.method, explainer.model))
        context.output.count(latents=len(found), explained=sum(row.status == "ok" for row in found))


def latents_at_most(config: Config) -> int:
    """Latents that a run is about, as far as its configuration tells."""
    if config.latents.choose == "listed":
        return len(config.latents.ids)
    return config.latents.count or coder_width(config)


def coder_width(config: Config) -> int:
    """Width of the coder where its file is at hand; a guess for one that is not."""
    from nlsim.errors import NlsimError

    try:
        from nlsim.coders.load import coder_meta  # reads a header, no weights

        return int(coder_meta(config.coder).width)
    except (ImportError, NlsimError, OSError):
        return GUESSED_WIDTH
