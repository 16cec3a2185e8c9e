"""Stage `simulate`: predicted activations of every explained latent at every read. A shard is a range of latents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow

    from nlsim.config import Config
    from nlsim.explain.explainer import Explanation
    from nlsim.lm.engine import Choices

PROMPT_TOKENS = 160
"""Tokens of an explanation with its instructions beyond what is shared, where a plan has to guess."""
SUBTOKENS, SLOT_TOKENS = 1.25, 4.2
"""Tokens of the language model per token of the subject: as running text, and on lines with a slot for the answer."""
INSTRUCTION_TOKENS, TAIL_TOKENS = 500, 12
"""Tokens before the explanation, which only an endpoint charges for each prompt; and after the text."""


class Simulate(Stage):
    """explanations × windows → log-probabilities of the answers.

    Objects: arrays `tile-NNNN`: latent [L], logprobs f16 [L, R, C] over the full vocabulary, mass f16 [L, R]; table
    `latents`: every chosen latent with its status, so that every pair is accounted for. Shard 0 also holds arrays
    `windows` (see `windows.Windows`) and `shuffled` (see `predictions.Predictions`).
    """

    name = "simulate"
    version = 2
    sections = ("simulate", "seed")
    splits = ("calibrate", "evaluate")

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
        from nlsim.lm.planning import flops, price

        settings, lm = config.simulate, config.language_model("simulate")
        rows = settings.calibration_rows + settings.evaluation_rows
        shown = settings.window or config.corpus.context - 2
        latents = latents_at_most(config)
        predictions = latents * rows * (shown if settings.positions == "all" else 1)
        choices = 10 if settings.prompt == "digit" else 2
        with_slots = settings.positions == "all" and not lm.model.startswith("nlsim:")
        text = shown * (SLOT_TOKENS if with_slots else SUBTOKENS) + (0 if settings.positions == "all" else TAIL_TOKENS)
        return Estimate(
            predictions=predictions,
            bytes=predictions * 2 * (choices + 1),
            flops=flops(lm, latents * (PROMPT_TOKENS + rows * text)),
            price=price(lm, predictions * (INSTRUCTION_TOKENS + PROMPT_TOKENS + text), predictions),
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
        from nlsim.simulate.prompts import LastPrompts, simulation_prompts
        from nlsim.simulate.texts import check_taught, shown_texts, window_texts
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
        check_taught(lm, config, context.inputs["tokens"], windows, [one.latent for one in todo])
        texts = window_texts(context.inputs["tokens"], windows)
        reads, failed = len(windows.at_R), 0
        with closing(load_engine(lm)) as engine:
            prompts = simulation_prompts(settings, lm, engine, texts)
            every = shown_texts(explained, settings, context.inputs)
            swapped = prompts if isinstance(prompts, LastPrompts) and prompts.text_first(every) else None
            for tile, start in enumerate(range(0, len(todo), settings.latents_per_tile)):
                some = todo[start : start + settings.latents_per_tile]
                shown = shown_texts(some, settings, context.inputs)
                logprobs_LRC = np.empty((len(some), reads, len(prompts.choices)), np.float16)
                mass_LR = np.empty((len(some), reads), np.float16)
                trees = prompts.trees(shown) if swapped is None else swapped.trees_of_windows(shown)
                for share in fill(logprobs_LRC, mass_LR, engine.choose(trees, prompts.choices), swapped is not None):
                    context.progress(start + int(share * len(some)), len(todo), "latents")
                failed += int((~np.isfinite(logprobs_LRC.astype(np.float32)).any(2)).sum())
                context.output.arrays(
                    f"tile-{tile:04d}",
                    {
                        "latent": np.array([one.latent for one in some], np.int64),
                        "logprobs": logprobs_LRC,
                        "mass": mass_LR,
                    },
                )
            context.output.engine(**engine.facts(), order="text first" if swapped else "explanation first")
        context.output.count(
            latents=len(todo), unexplained=len(mine) - len(todo), predictions=len(todo) * reads, failed=failed
        )


def fill(
    logprobs_LRC: npt.NDArray[np.float16], mass_LR: npt.NDArray[np.float16], answers: Iterable[Choices], by_read: bool
) -> Iterator[float]:
    """Put answers where they belong, latent by latent or (`by_read`) read by read; yields which part is done."""
    count = mass_LR.shape[1 if by_read else 0]
    for i, answer in enumerate(answers):
        where = (slice(None), i) if by_read else (i,)
        logprobs_LRC[where], mass_LR[where] = answer.logprobs_RC, answer.mass_R
        yield (i + 1) / count


def status_table(explanations: Iterable[Explanation]) -> pyarrow.Table:
    import pyarrow as pa

    rows = list(explanations)
    return pa.table(
        {
            "latent": pa.array([row.latent for row in rows], pa.int64()),
            "status": pa.array([row.status for row in rows], pa.string()),
        }
    )
