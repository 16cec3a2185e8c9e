"""Stage `calibrate`: maps from predictions to activation values, and how good predictions are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config


class Calibrate(Stage):
    """predictions + truth of the calibrate split → maps; judged on the evaluate split. One shard, no torch.

    Objects: arrays `latents`: all latents under study: latent, mean, density, active_mean, robust_max, score, and
    `predicted` (its place among the predicted ones, -1 without predictions); arrays `posterior`, `refitted` (see
    `Posterior.to_arrays`), `quantile` (`QuantileMap`), `token_mean` (`TokenTable`); tables `latents` and `reliability`;
    JSON `metrics`: rows of metrics.json. Memory: about 60 bytes per latent and read.
    """

    name = "calibrate"
    version = 3
    sections = ("calibrate", "seed")
    inputs = ("tokens", "cache", "index", "score", "simulate")

    def shards(self, config: Config) -> int:  # noqa: ARG002 - curves are shared by all latents
        return 1

    def resources(self, config: Config) -> Resources:
        from nlsim.explain.stage import latents_at_most

        pairs = latents_at_most(config) * _reads_at_most(config)
        return Resources(memory_gb=2.0 + 60 * pairs / 1e9)

    def estimate(self, config: Config) -> Estimate:
        from nlsim.explain.stage import latents_at_most

        return Estimate(bytes=latents_at_most(config) * 1000)

    def execute(self, context: StageContext) -> None:
        from nlsim.calibrate.fit import calibrate

        calibrate(context)


def _reads_at_most(config: Config) -> int:
    rows = config.simulate.calibration_rows + config.simulate.evaluation_rows
    shown = config.simulate.window or config.corpus.context - 2
    return rows * (shown if config.simulate.positions == "all" else 1)
