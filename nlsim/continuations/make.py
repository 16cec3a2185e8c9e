"""Carrying out the stage `continue` for one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.continuations.conditions import CLEAN, Condition, Predicted, code_of, of_kind, without_explanations
from nlsim.continuations.kinds import shown_kinds
from nlsim.continuations.patched import Choice, Patcher
from nlsim.continuations.predict import Predictor, Unread
from nlsim.continuations.prompts import find_prompt
from nlsim.continuations.results import Texts
from nlsim.continuations.write import Draft, Judged, clean_text, write
from nlsim.corpus.pieces import Pieces
from nlsim.explain.table import read_explanations
from nlsim.latents.cache_stage import models
from nlsim.pipeline.variant import of_kind as inputs_of_kind

if TYPE_CHECKING:
    from nlsim.pipeline.stage import StageContext

Ints = npt.NDArray[np.int64]


def make(context: StageContext) -> None:
    """Write the texts of this shard's prompt; a shard without a prompt writes none."""
    config, settings = context.config, context.config.continuations
    subject, coder = models(config.subject, config.coder)
    pieces = Pieces.of(context.inputs["tokens"])
    latents = np.array([one.latent for one in read_explanations(context.inputs["explain"])], np.int64)
    texts = Texts(latents, settings, (config.seed, context.shard, 0))
    prompt = find_prompt(context.shard, settings, context.inputs["tokens"], subject)
    if prompt is None:
        texts.write(context.output, {"source": "", "begun": 0, "latents": len(latents), "width": coder.meta.width})
        context.output.count(prompts=0, texts=0)
        return
    begun = len(prompt.tokens)
    choice = Choice(settings.temperature, (config.seed, context.shard, 1))
    patcher = Patcher(subject, coder, latents, choice, settings.likeliest)
    draft = Draft(subject, choice, begun + settings.tokens, frozenset(pieces.special))

    def reader(predictor: Predictor | None) -> _Reader:
        return _Reader(context, patcher, predictor)

    clean = clean_text(prompt.tokens, reader(None), draft)
    for kind in ("", *shown_kinds(config)):
        predictor, conditions = None, without_explanations(settings)
        if kind:
            predictor = Predictor(config.of_kind(kind), inputs_of_kind(context.inputs, kind), pieces)
            conditions = of_kind(kind, predictor.calibrated)
        read = reader(predictor)
        forced = read(dict.fromkeys(conditions, clean))
        texts.add(forced[conditions[0]], (CLEAN, *conditions), kind)
        if settings.free_running:
            for condition, judged in write(forced, begun, read, draft).items():
                texts.free[condition.label] = texts.add(judged, (CLEAN, condition), kind)
    facts = {"source": prompt.source, "begun": begun, "latents": len(latents), "width": coder.meta.width}
    texts.write(context.output, facts)
    context.output.count(prompts=1, tokens=len(clean) - begun)


class _Reader:
    """Lets conditions of one kind (or of none) read texts. Those with the same text share its clean beginning, its true
    code and its predictions."""

    def __init__(self, context: StageContext, patcher: Patcher, predictor: Predictor | None) -> None:
        self._context, self._patcher, self._predictor = context, patcher, predictor

    def __call__(self, texts: Mapping[Condition, Ints]) -> dict[Condition, Judged]:
        readers: dict[tuple[int, ...], list[Condition]] = {}
        for condition, tokens in texts.items():
            readers.setdefault(tuple(tokens.tolist()), []).append(condition)
        readings = [self._patcher.read(np.array(tokens, np.int64)) for tokens in readers]
        predicted: Sequence[Predicted | None] = [None] * len(readings)
        if self._predictor is not None:
            unread = [Unread(reading.tokens, reading.truth_SL) for reading in readings]
            predicted = self._predictor(unread, self._context.progress)
        result: dict[Condition, Judged] = {}
        settings, seed = self._context.config.continuations, (self._context.config.seed, self._context.shard, 0)
        for reading, said, conditions in zip(readings, predicted, readers.values(), strict=True):
            patched = [condition for condition in conditions if condition != CLEAN]
            codes = [code_of(one, reading.truth_SL, said, settings.found_at, seed) for one in patched]
            steps = dict(zip([CLEAN, *patched], self._patcher.run(reading, codes), strict=True))
            judged = Judged(reading.tokens, reading.truth_SL, said, steps)
            result |= dict.fromkeys(conditions, judged)
        self._context.progress(1, 1, "texts")
        return result
