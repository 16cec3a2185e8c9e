"""Stages of the experiment `blog`: `identify` (per kind of explanations), `limits` and `help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlsim.config import Config


class Identify(Stage):
    """predictions + truth → which latents were found, with which values, and whether scores foretell it.

    Objects: JSON `metrics`: rows of metrics.json; table `latents`: one line per latent; arrays `heat`: counts [10, 10]
    of expected digit against true place, by `value` and by `quantile`. One shard.
    """

    name = "identify"
    version = 2
    sections = (
        "blog.pool", "blog.top", "blog.thresholds", "blog.tail", "blog.aligned_reads", "blog.grid", "blog.bins",
        "blog.draws", "blog.level", "calibrate.least_mass", "coder", "seed",
    )  # fmt: skip

    def __init__(self, values: bool = False) -> None:
        """`values`: digits come from the stage `values`, not from `simulate`."""
        self.inputs = ("tokens", "cache", "index", "score", "simulate", *(("values",) if values else ()))

    def shards(self, config: Config) -> int:  # noqa: ARG002 - averages over everything
        return 1

    def resources(self, config: Config) -> Resources:
        from nlsim.blog.pairs import pairs_at_most

        return Resources(image="model", memory_gb=4.0 + 120 * pairs_at_most(config) / 1e9)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.coders.load import coder_identity

        return coder_identity(config.coder)

    def execute(self, context: StageContext) -> None:
        from nlsim.blog.measure import measure

        measure(context)


class Limits(Stage):
    """True codes with latents left out, and planted simulators → table `losses` (see `losses.LossLines`). A shard is a
    block of evaluation rows."""

    name = "limits"
    version = 2
    sections = (
        "blog.counts", "blog.random_draws", "blog.rows", "blog.window", "blog.recalls", "blog.false_rates",
        "blog.planted_rows", "blog.shard_rows", "subject", "coder", "seed",
    )  # fmt: skip
    inputs = ("tokens", "cache", "index")

    def shards(self, config: Config) -> int:
        return -(-config.blog.rows // config.blog.shard_rows)

    def resources(self, config: Config) -> Resources:
        return Resources(image="model", cpus=2.0, memory_gb=16.0, gpus=int(config.subject.device.startswith("cuda")))

    def estimate(self, config: Config) -> Estimate:
        from nlsim.blog.limits import kept_conditions, planted_conditions

        settings = config.blog
        runs = settings.rows * len(kept_conditions(settings))
        runs += min(settings.planted_rows, settings.rows) * len(planted_conditions(settings))
        return Estimate(tokens=runs * config.corpus.context, bytes=60 * runs)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.coders.load import coder_identity
        from nlsim.subject.locate import model_identity

        return {**model_identity(config.subject), **coder_identity(config.coder)}

    def execute(self, context: StageContext) -> None:
        from nlsim.blog.limits import measure_limits

        measure_limits(context)


class Help(Stage):
    """True codes without the latents that were not found → table `losses`, a line per read. For all kinds at once: they
    share the clean runs. A shard is a block of evaluation windows."""

    name = "help"
    sections = (
        "kind", "blog.help_positions", "blog.help_earlier", "blog.shard_rows", "calibrate.least_mass", "subject",
        "coder", "seed",
    )  # fmt: skip

    def __init__(self, simulate: tuple[str, ...]) -> None:
        """`simulate`: the stages that hold the predictions of all kinds."""
        self.inputs = ("tokens", "cache", "index", *simulate)

    def shards(self, config: Config) -> int:
        return -(-config.simulate.evaluation_rows // config.blog.shard_rows)

    def resources(self, config: Config) -> Resources:
        return Resources(image="model", cpus=2.0, memory_gb=16.0, gpus=int(config.subject.device.startswith("cuda")))

    def estimate(self, config: Config) -> Estimate:
        runs = config.simulate.evaluation_rows * (3 + 2 * (1 + len(config.kinds)))
        return Estimate(tokens=runs * config.corpus.context, bytes=60 * runs)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.coders.load import coder_identity
        from nlsim.subject.locate import model_identity

        return {**model_identity(config.subject), **coder_identity(config.coder)}

    def execute(self, context: StageContext) -> None:
        from nlsim.blog.help import measure_help

        measure_help(context)
