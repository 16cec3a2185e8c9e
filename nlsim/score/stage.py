"""Stage `score`: how well explanations tell activating from other contexts. A shard is a range of latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import islice
from typing import TYPE_CHECKING

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext
from nlsim.plugins import is_plugin, plugin_identity

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.explain.explainer import Explanation
    from nlsim.lm.engine import Engine
    from nlsim.score.questions import Question, QuestionMaker, Scorer
    from nlsim.score.results import Answered

BLOCK = 64
"""Latents whose questions are held at a time."""
TOKENS_PER_QUESTION, INSTRUCTION_TOKENS = 60, 400
"""Tokens of a context, and of what comes before the contexts of a prompt, where a plan has to guess."""


class Score(Stage):
    """explanations, contexts of the score split → table `scores` and table `examples` (see `results`)."""

    name = "score"
    version = 3
    sections = ("score", "seed")
    inputs = ("tokens", "cache", "index", "explain")

    def shards(self, config: Config) -> int:
        return config.score.shards

    def resources(self, config: Config) -> Resources:
        from nlsim.lm.planning import engine_resources

        return engine_resources(config.language_model("score"))

    def estimate(self, config: Config) -> Estimate:
        from nlsim.explain.stage import latents_at_most
        from nlsim.lm.planning import flops, price

        settings = config.score
        per = {"detection": settings.examples + settings.others, "fuzzing": settings.examples}
        predictions = latents_at_most(config) * sum(per.get(scorer, 0) for scorer in settings.scorers)
        lm, tokens = config.language_model("score"), TOKENS_PER_QUESTION
        return Estimate(
            predictions=predictions,
            bytes=predictions * 30,
            flops=flops(lm, predictions * tokens),
            price=price(lm, predictions * (INSTRUCTION_TOKENS + settings.batch * tokens), predictions),
        )

    def settings(self, config: Config) -> dict[str, object]:
        from nlsim.lm.planning import lm_settings

        return lm_settings(super().settings(config), "score", config.language_model("score"))

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.lm.planning import lm_identity
        from nlsim.subject.config import SubjectConfig
        from nlsim.subject.locate import model_identity

        own = [plugin_identity("nlsim.scorers", scorer) for scorer in config.score.scorers]
        if config.score.embedding_model:
            embedding = model_identity(SubjectConfig(model=config.score.embedding_model))
            own.append({f"embedding {name}": digest for name, digest in embedding.items()})
        return {**lm_identity(config.language_model("score")), **{k: v for part in own for k, v in part.items()}}

    def execute(self, context: StageContext) -> None:
        from nlsim.corpus.pieces import Pieces
        from nlsim.explain.explainer import read_pieces
        from nlsim.explain.table import read_explanations
        from nlsim.latents.arrays import cuts
        from nlsim.latents.index import LatentIndex
        from nlsim.lm.engine import load_engine
        from nlsim.score.questions import QuestionMaker
        from nlsim.score.results import example_table, score_table

        config, settings = context.config, context.config.score
        index = LatentIndex(context.inputs["tokens"], context.inputs["cache"], context.inputs["index"])
        explanations = read_explanations(context.inputs["explain"])
        first, last = cuts(len(explanations), context.shards)[context.shard : context.shard + 2]
        mine = [explanation for explanation in explanations[first:last] if explanation.status == "ok"]
        maker = QuestionMaker(settings, index, Pieces(read_pieces(context.inputs["tokens"])), config.seed)
        found: list[Answered] = []
        with ExitStack() as engines:
            engine: Engine | None = None
            if {"detection", "fuzzing"} & set(settings.scorers):
                engine = engines.enter_context(closing(load_engine(config.language_model("score"))))
            for number, scorer in enumerate(settings.scorers):
                for answered in _answers(config, scorer, mine, maker, engine):
                    found.append(answered)
                    context.progress(len(found), len(mine) * len(settings.scorers), f"latents, scorer {number + 1}")
            if engine is not None:
                context.output.engine(**engine.facts())
        found.sort(key=lambda one: (one.latent, one.scorer))
        context.output.table("scores", score_table(found))
        context.output.table("examples", example_table(found))
        failed = sum(int((one.probability_N != one.probability_N).sum()) for one in found)
        context.output.count(latents=len(mine), examples=sum(len(one.questions) for one in found), failed=failed)


def _answers(
    config: Config, scorer: str, explanations: list[Explanation], maker: QuestionMaker, engine: Engine | None
) -> Iterator[Answered]:
    """The questions of one scorer and their answers; latents without contexts in the score split are left out."""
    from nlsim.score.plugin import judged, load_scorer
    from nlsim.score.results import Answered

    plugin = load_scorer(scorer, config) if is_plugin(scorer) else None
    form = scorer if plugin is None else plugin.asks
    asked = ((explanation, _questions(form, explanation.latent, maker)) for explanation in explanations)
    asked = ((explanation, questions) for explanation, questions in asked if questions)
    if plugin is not None:
        for explanation, questions in asked:
            yield Answered(explanation.latent, scorer, questions, judged(scorer, plugin, explanation.text, questions))
        return
    if engine is None or scorer == "embedding":
        from nlsim.score.embedding import EmbeddingScorer

        embedding = EmbeddingScorer(config.score.embedding_model)
        for explanation, questions in asked:
            texts = ["".join(question.pieces) for question in questions]
            # a cosine of 0 is the natural threshold of neither scorer: (1 + cosine) / 2 only keeps it in [0, 1]
            yield Answered(
                explanation.latent, scorer, questions, (1 + embedding.similarity(explanation.text, texts)) / 2
            )
        return
    from nlsim.score.prompts import scoring_prompts

    known: Scorer = "fuzzing" if scorer == "fuzzing" else "detection"
    prompts = scoring_prompts(known, config.score.batch, config.language_model("score"), engine)
    while block := list(islice(asked, BLOCK)):
        trees = (prompts.tree(explanation.text, questions) for explanation, questions in block)
        for (explanation, questions), answer in zip(block, engine.choose(trees, prompts.choices), strict=True):
            yield Answered(explanation.latent, scorer, questions, prompts.probability(questions, answer.logprobs_RC))


def _questions(scorer: str, latent: int, maker: QuestionMaker) -> list[Question]:
    if scorer == "fuzzing":
        return maker.fuzzing(maker.active(latent))
    return maker.detection(*maker.contexts(latent))
