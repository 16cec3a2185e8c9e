"""Stage `simulate`: predicted activations of every explained latent at every read. A shard is a range of latents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    import pyarrow

    from nlsim.config import Config
    from nlsim.explain.explainer import Explanation

PROMPT_TOKENS = 160
"""Tokens of an explanation with its instructions beyond what is shared, where a plan has to guess."""
SUBTOKENS = 1.25
"""Tokens of the language model per token of the subject, where a plan has to guess."""


class Simulate(Stage):
    """explanations × windows → log-probabilities of the answers.

    Objects: arrays `tile-NNNN`: latent [L], logprobs f16 [L, R, C] over the full vocabulary, mass f16 [L, R]; table
    `latents`: every chosen latent with its status, so that every pair is accounted for. Shard 0 also holds arrays
    `windows` (see `windows.Windows`) and `shuffled` (see `predictions.Predictions`).
    """

    name = "simulate"
    sections = ("simulate", "seed")

    def __init__(self, scored: bool = False) -> None:
        """`scored`: prompts show scores, so they are an input."""
        self.inputs = ("tokens", "explain", *(("score",) if scored else ()))

    def shards(self, config: Config) -> int:
        return config.simulate.shards

    def resources(self, config: Config) -> Resources:
        from nlsim.lm.planning import engine_resources

        return engine_resources(config.language_model("simulate"))

    def estimate(self, config: Config) -> Estimate:
        from nlsim.explain.stage import latents_at_most
        from nlsim.lm.planning import parameters

        settings = config.simulate
        rows = settings.calibration_rows + settings.evaluation_rows
        shown = settings.window or config.corpus.context - 2
        latents = latents_at_most(config)
        predictions = latents * rows * (shown if settings.positions == "all" else 1)
        choices = 10 if settings.prompt == "digit" else 2
        tokens = latents * (PROMPT_TOKENS + rows * shown * SUBTOKENS)
        return Estimate(
            predictions=predictions,
            bytes=predictions * 2 * (choices + 1),
            flops=2.0 * parameters(config.language_model("simulate")) * tokens,
        )

    def settings(self, config: Config) -> dict[str, object]:
        from nlsim.lm.planning import lm_settings

        return lm_settings(super().settings(config), "simulate", config.language_model("simulate"))

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.lm.planning import lm_identity

        return lm_identity(config.language_model("simulate"))

    def execute(self, context: StageContext) -> None:
        import numpy as np

        from nlsim.explain.table import read_explanations
        from nlsim.latents.arrays import cuts
        from nlsim.latents.rows import TokenRows
        from nlsim.lm.engine import load_engine
        from nlsim.simulate.predictions import derangement
        from nlsim.simulate.prompts import simulation_prompts
        from nlsim.simulate.texts import shown_texts, window_texts
        from nlsim.simulate.windows import choose_windows

        config, settings = context.config, context.config.simulate
        explanations = read_explanations(context.inputs["explain"])
        explained = [explanation for explanation in explanations if explanation.status == "ok"]
        first, last = cuts(len(explanations), context.shards)[context.shard : context.shard + 2]
        mine = explanations[first:last]
        windows = choose_windows(TokenRows.of(context.inputs["tokens"]), settings, config.seed)
        if context.shard == 0:
            context.output.arrays("windows", windows._asdict())
            wrong = [explained[i].latent for i in derangement(len(explained), config.seed)]
            context.output.arrays("shuffled", {"latent": np.array(wrong, np.int64)})
        context.output.table("latents", status_table(mine))

        todo = [explanation for explanation in mine if explanation.status == "ok"]
        lm = config.language_model("simulate")
        engine = load_engine(lm)
        prompts = simulation_prompts(settings, lm, engine, window_texts(context.inputs["tokens"], windows))
        reads = len(windows.at_R)
        answers = engine.choose(prompts.trees(shown_texts(todo, settings, context.inputs)), prompts.choices)
        failed = 0
        for tile, start in enumerate(range(0, len(todo), settings.latents_per_tile)):
            latents = [explanation.latent for explanation in todo[start : start + settings.latents_per_tile]]
            logprobs_LRC = np.empty((len(latents), reads, len(prompts.choices)), np.float16)
            mass_LR = np.empty((len(latents), reads), np.float16)
            for i in range(len(latents)):
                answer = next(answers)
                logprobs_LRC[i], mass_LR[i] = answer.logprobs_RC, answer.mass_R
                context.progress(start + i + 1, len(todo), "latents")
            failed += int((~np.isfinite(logprobs_LRC.astype(np.float32)).any(2)).sum())
            context.output.arrays(
                f"tile-{tile:04d}",
                {"latent": np.array(latents, np.int64), "logprobs": logprobs_LRC, "mass": mass_LR},
            )
        context.output.count(
            latents=len(todo), unexplained=len(mine) - len(todo), predictions=len(todo) * reads, failed=failed
        )
        context.output.engine(**engine.facts())


def status_table(explanations: Iterable[Explanation]) -> pyarrow.Table:
    import pyarrow as pa

    rows = list(explanations)
    return pa.table(
        {
            "latent": pa.array([row.latent for row in rows], pa.int64()),
            "status": pa.array([row.status for row in rows], pa.string()),
        }
    )
