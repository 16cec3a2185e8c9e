"""Stage `continue`: what the subject goes on to write under every condition. A shard is a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from nlsim.continuations.kinds import shown_kinds
from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext
from nlsim.simulate.pool_stage import TYPICAL_ACTIVE
from nlsim.simulate.stage import Simulate

if TYPE_CHECKING:
    from nlsim.config import Config

ROUNDS = 4
"""Passes over the predictions of a kind, where a plan has to guess how often texts differ."""


class Continue(Stage):
    """prompts + subject + coder + explanations and maps of all kinds → texts, token by token (see `results`).

    Every condition reads what the subject writes as it is (teacher-forced), and writes a text of its own. Latents are
    predicted here, at tokens that no other stage has seen. Memory: the models, and per text 40 bytes per token and
    latent of the coder.
    """

    name = "continue"
    sections = ("continuations", "subject", "coder", "reconstruct.unexplained", "calibrate.least_mass", "seed", "kind")

    def __init__(self, stages: Iterable[str]) -> None:
        """`stages`: names of those before it in the pipeline, of all kinds."""
        wanted = ("explain", "score", "calibrate")
        self.inputs = ("tokens", *(name for name in stages if name.partition("-")[0] in wanted))

    def shards(self, config: Config) -> int:
        return max(1, config.continuations.prompts_at_most)

    def resources(self, config: Config) -> Resources:
        from nlsim.lm.planning import engine_resources

        needs = [engine_resources(config.of_kind(kind).language_model("simulate")) for kind in shown_kinds(config)]
        gpus = max([int(config.subject.device.startswith("cuda")), *(need.gpus for need in needs)])
        image: Literal["model", "vllm"] = "vllm" if any(need.image == "vllm" for need in needs) else "model"
        return Resources(image, 2.0, 4.0 + max((need.memory_gb for need in needs), default=0.0), gpus)

    def estimate(self, config: Config) -> Estimate:
        from nlsim.explain.stage import latents_at_most
        from nlsim.lm.planning import parameters

        settings = config.continuations
        text = settings.prompt_tokens + settings.tokens
        conditions = 2 + len(settings.orders) * len(settings.fractions) + 2 * len(shown_kinds(config))
        rounds = ROUNDS if settings.free_running else 1
        tokens = settings.prompts_at_most * text * rounds
        predictions, flops = 0, 0.0
        for kind in shown_kinds(config):
            mine = config.of_kind(kind)
            pool = mine.simulate.pool
            asked = tokens * (latents_at_most(mine) if pool is None else pool + TYPICAL_ACTIVE)
            predictions += asked
            flops += 2.0 * parameters(mine.language_model("simulate")) * asked
        return Estimate(
            tokens=tokens * conditions,
            predictions=predictions,
            bytes=settings.prompts_at_most * text * conditions * 200,
            flops=flops,
        )

    def settings(self, config: Config) -> dict[str, object]:
        asked = {f"simulate of {kind}": Simulate().settings(config.of_kind(kind)) for kind in shown_kinds(config)}
        return {**super().settings(config), **asked}

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.coders.load import coder_identity
        from nlsim.subject.locate import model_identity

        asked: dict[str, str] = {}
        for kind in shown_kinds(config):
            found = Simulate().identity(config.of_kind(kind))
            asked |= {f"{name} of {kind}": value for name, value in found.items()}
        return {**model_identity(config.subject), **coder_identity(config.coder), **asked}

    def execute(self, context: StageContext) -> None:
        from nlsim.continuations.make import make

        make(context)
