"""Stage `explain`: a text for every chosen latent. A shard is a range of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext
from nlsim.plugins import plugin_identity

if TYPE_CHECKING:
    from nlsim.config import Config

GUESSED_WIDTH = 32_768
"""Latents where a plan cannot know how many there are."""
INSTRUCTION_TOKENS, EXAMPLE_TOKENS = 600, 70
"""Tokens of an explainer's prompt that are the same for all latents, and of each example, where a plan has to guess."""


class Explain(Stage):
    """index → table `explanations` (see `table.explanation_table`): every chosen latent once, failures included."""

    name = "explain"
    version = 2
    sections = ("explain", "latents", "seed")
    inputs = ("tokens", "cache", "index")

    def shards(self, config: Config) -> int:
        return config.explain.shards

    def resources(self, config: Config) -> Resources:
        if config.explain.method != "llm":
            return Resources(memory_gb=4.0)
        from nlsim.lm.planning import engine_resources

        return engine_resources(config.language_model("explain"))

    def estimate(self, config: Config) -> Estimate:
        latents, settings = latents_at_most(config), config.explain
        if settings.method != "llm":
            return Estimate(bytes=latents * 500)
        from nlsim.lm.planning import flops, price

        # the instructions are computed anew for every latent: unlike predictions, texts are written one by one
        shown = min(INSTRUCTION_TOKENS + settings.examples * EXAMPLE_TOKENS, settings.prompt_tokens)
        read, written, lm = latents * shown, latents * settings.max_tokens, config.language_model("explain")
        return Estimate(bytes=latents * 500, flops=flops(lm, read + written), price=price(lm, read, written))

    def settings(self, config: Config) -> dict[str, object]:
        from nlsim.lm.planning import lm_settings

        asked = config.language_model("explain") if config.explain.method == "llm" else None
        return lm_settings(super().settings(config), "explain", asked)

    def identity(self, config: Config) -> Mapping[str, str]:
        if config.explain.method == "import":
            from nlsim.explain.imported import file_digest, import_path

            return {"explanations": file_digest(import_path(config.explain.path))}
        if config.explain.method == "llm":
            from nlsim.lm.planning import lm_identity

            return lm_identity(config.language_model("explain"))
        return plugin_identity("nlsim.explainers", config.explain.method)

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
        context.output.engine(**explainer.facts)
        context.output.count(latents=len(found), explained=sum(row.status == "ok" for row in found))


def latents_at_most(config: Config) -> int:
    """Latents that a run is about, as far as its configuration tells."""
    if config.latents.choose == "listed":
        return len(config.latents.ids)
    return config.latents.count or coder_width(config)


def coder_width(config: Config) -> int:
    """Width of the coder where its file is at hand, or as its name tells (width_16k); a guess for others."""
    from nlsim.errors import NlsimError

    try:
        from nlsim.coders.load import coder_meta  # reads a header, no weights

        return int(coder_meta(config.coder, download=False).width)
    except (ImportError, NlsimError, OSError):
        named = re.search(r"(?:width_|[-_])(\d+)k\b", config.coder.path)
        return 2 ** round(math.log2(int(named[1]) * 1000)) if named else GUESSED_WIDTH
