"""Stages of the experiment `finetune`: `examples`, `train`, `judge`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config

TOKENS_PER_EXAMPLE = 200
"""Tokens of a prompt, where a plan has to guess."""


class Examples(Stage):
    """explanations + true activations of the train split → table `examples` (see `examples.Example`); JSON `facts`: the
    choices, the template's settings, latents and documents learned from. A shard is a range of latents."""

    name = "examples"
    sections = (
        "finetune.held_out", "finetune.active", "finetune.silent", "finetune.near", "finetune.shuffle", "simulate",
        "seed",
    )  # fmt: skip
    inputs = ("tokens", "cache", "index", "explain")
    splits = ("train",)

    def shards(self, config: Config) -> int:
        return config.finetune.shards

    def resources(self, config: Config) -> Resources:  # noqa: ARG002
        return Resources(image="model", memory_gb=8.0)

    def settings(self, config: Config) -> dict[str, object]:
        from nlsim.lm.planning import lm_settings

        return lm_settings(super().settings(config), "simulate", config.language_model("simulate"))

    def execute(self, context: StageContext) -> None:
        from nlsim.finetune.make import make_examples

        make_examples(context)


class Train(Stage):
    """examples → LoRA adapter in peft's form, with `nlsim.json`: what it was taught, and the loss curve. One shard; the
    state is kept every few steps, so that a later attempt carries on."""

    name = "train"
    sections = (
        "finetune.rank", "finetune.alpha", "finetune.dropout", "finetune.targets", "finetune.quantize",
        "finetune.learning_rate", "finetune.warmup", "finetune.batch", "finetune.epochs", "finetune.steps",
        "finetune.judged", "finetune.judge_every", "seed",
    )  # fmt: skip
    inputs = ("examples",)
    publishes: ClassVar[Mapping[str, str]] = {
        name: f"adapter/{name}" for name in ("adapter_model.safetensors", "adapter_config.json", "nlsim.json")
    }

    def shards(self, config: Config) -> int:  # noqa: ARG002 - steps follow each other
        return 1

    def resources(self, config: Config) -> Resources:
        from nlsim.lm.planning import engine_resources

        return engine_resources(config.language_model("simulate"))

    def estimate(self, config: Config) -> Estimate:
        from nlsim.lm.planning import parameters

        learned = min(_examples(config), (config.finetune.steps or 10**12) * config.finetune.batch)
        flops = 6.0 * parameters(config.language_model("simulate")) * learned * TOKENS_PER_EXAMPLE
        return Estimate(flops=flops)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.lm.planning import lm_identity

        return lm_identity(config.language_model("simulate"))

    def execute(self, context: StageContext) -> None:
        from nlsim.finetune.make import make_adapter

        make_adapter(context)


class Judge(Stage):
    """adapter + examples of held-out latents and documents → JSON `metrics`: rows of metrics.json."""

    name = "judge"
    sections = ("calibrate.least_mass",)
    inputs = ("examples", "train")

    def shards(self, config: Config) -> int:  # noqa: ARG002
        return 1

    def resources(self, config: Config) -> Resources:
        from nlsim.lm.planning import engine_resources

        return engine_resources(config.language_model("simulate"))

    def estimate(self, config: Config) -> Estimate:
        from nlsim.lm.planning import parameters

        asked = int(4 * config.finetune.held_out**2 * _examples(config))
        flops = 2.0 * parameters(config.language_model("simulate")) * asked * TOKENS_PER_EXAMPLE
        return Estimate(predictions=asked, flops=flops)

    def execute(self, context: StageContext) -> None:
        from nlsim.finetune.make import make_judgement

        make_judgement(context)


def _examples(config: Config) -> int:
    from nlsim.explain.stage import latents_at_most

    return latents_at_most(config) * (config.finetune.active + config.finetune.silent)
