"""Stage `simulate` on a sample of pairs, for dictionaries too wide to ask about whole; and `values` beside it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, StageContext
from nlsim.simulate.stage import PROMPT_TOKENS, SUBTOKENS, Simulate, status_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlsim.config import Config
    from nlsim.pipeline.stage import Resources

TYPICAL_ACTIVE = 50
"""Active latents of a read where a plan has to guess."""


class SimulatePool(Simulate):
    """explanations × sampled windows → log-probabilities of the answers, for the pairs of `pool.Pool`.

    Objects as of `Simulate`, but for the tiles: latent [L], indptr [L + 1], read [P], weight [P], logprobs f16 [P, C],
    mass f16 [P]; latent i has the pairs indptr[i]:indptr[i + 1].
    """

    def __init__(self, scored: bool = False) -> None:
        super().__init__(scored)
        self.inputs = ("cache", "index", *self.inputs)

    def estimate(self, config: Config) -> Estimate:
        from nlsim.explain.stage import latents_at_most
        from nlsim.lm.planning import parameters

        settings = config.simulate
        shown = settings.window or config.corpus.context - 2
        rows = settings.calibration_rows + settings.evaluation_rows
        pairs = rows * (shown if settings.positions == "all" else 1) * ((settings.pool or 0) + TYPICAL_ACTIVE)
        tokens = latents_at_most(config) * PROMPT_TOKENS + pairs * shown * SUBTOKENS
        flops = 2.0 * parameters(config.language_model("simulate")) * tokens
        choices = 10 if settings.prompt == "digit" else 2
        return Estimate(predictions=pairs, bytes=pairs * (2 * choices + 10), flops=flops)

    def execute(self, context: StageContext) -> None:
        import numpy as np

        from nlsim.explain.table import read_explanations
        from nlsim.latents.arrays import cuts
        from nlsim.latents.index import LatentIndex
        from nlsim.lm.engine import load_engine
        from nlsim.simulate.pool import draw_pool, only
        from nlsim.simulate.prompts import simulation_prompts
        from nlsim.simulate.texts import check_taught, shown_texts, window_texts
        from nlsim.simulate.windows import choose_windows

        config, inputs, settings = context.config, context.inputs, context.config.simulate
        explanations = read_explanations(inputs["explain"])
        first, last = cuts(len(explanations), context.shards)[context.shard : context.shard + 2]
        mine = explanations[first:last]
        index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
        windows = choose_windows(index.rows, settings, config.seed)
        context.output.table("latents", status_table(mine))
        if context.shard == 0:
            context.output.arrays("windows", windows._asdict())
        codes = index.codes_of_rows(np.unique(windows.at_R // index.context))
        codes = codes.select(np.isin(codes.token_N, windows.at_R))
        explained = np.array([one.latent for one in explanations if one.status == "ok"], np.int64)
        pool = draw_pool(codes, explained, settings.pool or 0, config.seed)
        asked_about = set(pool.latent_P.tolist())
        todo = [one for one in mine if one.latent in asked_about]

        lm = config.language_model("simulate")
        check_taught(lm, config, inputs["tokens"], windows, [one.latent for one in todo])
        failed = pairs = 0
        with closing(load_engine(lm)) as engine:
            prompts = simulation_prompts(settings, lm, engine, window_texts(inputs["tokens"], windows))
            trees = zip(prompts.trees(shown_texts(todo, settings, inputs)), todo, strict=True)
            asked = (only(tree, pool.read_P[pool.of(one.latent)]) for tree, one in trees)
            answers = engine.choose(asked, prompts.choices)
            for tile, start in enumerate(range(0, len(todo), settings.latents_per_tile)):
                some = [pool.of(one.latent) for one in todo[start : start + settings.latents_per_tile]]
                found = []
                for i in range(len(some)):
                    found.append(next(answers))
                    context.progress(start + i + 1, len(todo), "latents")
                logprobs_PC = np.concatenate([answer.logprobs_RC for answer in found]).astype(np.float16)
                failed += int((~np.isfinite(logprobs_PC.astype(np.float32)).any(1)).sum())
                pairs += len(logprobs_PC)
                context.output.arrays(
                    f"tile-{tile:04d}",
                    {
                        "latent": np.array([one.latent for one in todo[start : start + len(some)]], np.int64),
                        "indptr": np.cumsum([0, *(one.stop - one.start for one in some)]),
                        "read": np.concatenate([pool.read_P[one] for one in some]),
                        "weight": np.concatenate([pool.weight_P[one] for one in some]),
                        "logprobs": logprobs_PC,
                        "mass": np.concatenate([answer.mass_R for answer in found]).astype(np.float16),
                    },
                )
            context.output.engine(**engine.facts())
        context.output.count(latents=len(todo), unexplained=len(mine) - len(todo), predictions=pairs, failed=failed)


class Values(SimulatePool):
    """How strong the active latents are, where `simulate` asks only whether they are active: the digit prompt, about
    the active latents alone, in the form of `SimulatePool`."""

    name = "values"

    def settings(self, config: Config) -> dict[str, object]:
        return super().settings(_digits(config))

    def resources(self, config: Config) -> Resources:
        return super().resources(_digits(config))

    def estimate(self, config: Config) -> Estimate:
        return super().estimate(_digits(config))

    def identity(self, config: Config) -> Mapping[str, str]:
        return super().identity(_digits(config))

    def execute(self, context: StageContext) -> None:
        from dataclasses import replace

        super().execute(replace(context, config=_digits(context.config)))


def _digits(config: Config) -> Config:
    settings = config.simulate.model_copy(update={"prompt": "digit", "pool": 0})
    return config.model_copy(update={"simulate": settings})
