"""Stage `reconstruct`: losses of the subject under every condition. A shard is a block of evaluation windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config


class Reconstruct(Stage):
    """predictions + maps → table `losses`: one line per window and condition (see `losses.loss_table`).

    A token's true code is encoded in the run itself, so truth, explanation and patched run share one context. Memory:
    the models, and per batch about 12 bytes per position and latent of the coder.
    """

    name = "reconstruct"
    version = 2
    sections = ("reconstruct", "subject", "coder", "calibrate.least_mass", "seed")
    inputs = ("tokens", "cache", "simulate", "calibrate")

    def shards(self, config: Config) -> int:
        return -(-config.simulate.evaluation_rows // config.reconstruct.shard_rows)

    def resources(self, config: Config) -> Resources:
        return Resources(image="model", cpus=2.0, memory_gb=8.0, gpus=int(config.subject.device.startswith("cuda")))

    def estimate(self, config: Config) -> Estimate:
        from nlsim.reconstruct.conditions import conditions_of

        settings, rows = config.reconstruct, config.simulate.evaluation_rows
        few = min(settings.curve_rows, rows)
        patched = rows * len(conditions_of(settings, False))
        patched += few * (len(conditions_of(settings, True)) - len(conditions_of(settings, False)))
        return Estimate(tokens=patched * config.corpus.context, bytes=40 * patched)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.coders.load import coder_identity
        from nlsim.subject.locate import model_identity

        return {**model_identity(config.subject), **coder_identity(config.coder)}

    def execute(self, context: StageContext) -> None:
        from nlsim.reconstruct.measure import measure

        measure(context)
