"""Scoring prompts: does the explanation fit this context? Answers are next-token distributions over 0 and 1, never
text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nlsim.lm.prompts import PromptTree, common_prefix, from_prompts, leaf
from nlsim.lm.templates import Message, Template
from nlsim.score.questions import Question, Scorer, marked_text

if TYPE_CHECKING:
    from nlsim.lm.config import LmConfig
    from nlsim.lm.engine import Engine

_INTRODUCTION = "You study the inner features of a language model. A feature responds to some tokens of a text, as its description says. "
INSTRUCTIONS: dict[str, str] = {
    "detection": _INTRODUCTION
    + "For each numbered text, say whether some token in it makes the feature respond: 1 if so, "
    "0 if none does. Be strict: a text on a related subject does not make it respond.",
    "fuzzing": _INTRODUCTION
    + "In each numbered text some tokens stand between « and ». Say whether they are the tokens "
    "the feature responds to: 1 if the marks are right, 0 if they stand at other tokens.",
}
_MONTHS, _REASONS = "names of months in dates", "words that give a reason, such as because"
SHOTS: dict[str, tuple[tuple[str, tuple[str, ...], tuple[int, ...]], ...]] = {
    "detection": (
        (_MONTHS, ("He was born on 4 May 1931.", "She may come later.", "Due by March 3."), (1, 0, 1)),
        (_REASONS, ("It rained all day.", "We left, since it rained.", "Why not?"), (0, 1, 0)),
    ),
    "fuzzing": (
        (_MONTHS, ("born on 4« May» 1931", "due by« March» 3", "on the« first» of June"), (1, 1, 0)),
        (_REASONS, ("we« left», since it rained", "stayed« because» of it"), (0, 1)),
    ),
}


class ScoringPrompts(Protocol):
    """Prompts of one scorer."""

    choices: tuple[int, ...]
    """Tokens for no and yes."""

    def tree(self, explanation: str, questions: Sequence[Question]) -> PromptTree:
        """One trie with one read per question, in their order."""


def scoring_prompts(scorer: Scorer, batch: int, lm: LmConfig, engine: Engine) -> ScoringPrompts:
    """The prompts that suit the model."""
    from nlsim.simulator.assets import is_simulator

    if is_simulator(lm):
        return SimulatorScoring(scorer, engine)
    return InstructedScoring(scorer, batch, Template(engine.tokenizer, lm.template, lm.date))


class SimulatorScoring:
    """The simulator's own format; every context is asked about alone."""

    def __init__(self, scorer: Scorer, engine: Engine) -> None:
        from nlsim.simulator.text import SimulatorText, Task

        self._text = SimulatorText.of(engine.tokenizer)
        self._task = Task.DETECT if scorer == "detection" else Task.FUZZ
        self.choices: tuple[int, ...] = tuple(self._text.digits[:2])

    def tree(self, explanation: str, questions: Sequence[Question]) -> PromptTree:
        """See `ScoringPrompts`."""
        windows = (self._text.window(question.pieces, question.marked, question=True) for question in questions)
        prefix = self._text.prefix(self._task, explanation)
        return PromptTree(prefix, np.empty(0, np.int64), tuple(leaf(window.tokens) for window in windows))


class InstructedScoring:
    """Instructions and worked examples; `batch` contexts share a prompt.

    The answer about each context of a batch is read after `Text <number>: `, independently of the other answers: the
    branches of one trie. So a batch always has as many answers as contexts, the last, smaller one too (mistake 24).
    """

    def __init__(self, scorer: Scorer, batch: int, template: Template) -> None:
        self._batch, self._template, self._scorer = batch, template, scorer
        # the answers must be one token after every number that occurs
        forced = [template.force(f"Text {number}: ", ("0", "1")) for number in range(1, batch + 1)]
        self._openings = [form.opening for form in forced]
        self.choices = forced[0].tokens
        self._before = [Message("system", INSTRUCTIONS[scorer])]
        for explanation, texts, answers in SHOTS[scorer]:
            for number, answer in enumerate(answers[:batch] if batch > 1 else answers[:1], 1):
                shown = texts[: len(answers)] if batch > 1 else texts[:1]
                self._before += [
                    Message("user", _ask(explanation, shown)),
                    Message("assistant", f"Text {number}: {answer}"),
                ]

    def tree(self, explanation: str, questions: Sequence[Question]) -> PromptTree:
        """See `ScoringPrompts`."""
        chunks = []
        for start in range(0, len(questions), self._batch):
            texts = [self._show(question) for question in questions[start : start + self._batch]]
            turns = [*self._before, Message("user", _ask(explanation, texts))]
            prompts = [self._template.text(turns, opening) for opening in self._openings[: len(texts)]]
            chunks.append(from_prompts([self._template.encode(prompt) for prompt in prompts]))
        return _joined(chunks)

    def _show(self, question: Question) -> str:
        text = marked_text(question.pieces, question.marked) if self._scorer == "fuzzing" else "".join(question.pieces)
        return text.strip("\n")


def _ask(explanation: str, texts: Sequence[str]) -> str:
    numbered = "\n".join(f"Text {number}: {text}" for number, text in enumerate(texts, 1))
    return f"Feature: {explanation}\n\n{numbered}"


def _joined(trees: Sequence[PromptTree]) -> PromptTree:
    """Tries without reads of their own at the root, under one root that holds what they share."""
    shared = min(common_prefix(trees[0].tokens, tree.tokens) for tree in trees)
    shared = min(shared, *(len(tree.tokens) - 1 for tree in trees)) if len(trees) > 1 else len(trees[0].tokens)
    if shared == len(trees[0].tokens):
        return trees[0]
    branches = (PromptTree(tree.tokens[shared:], tree.reads, tree.branches) for tree in trees)
    return PromptTree(trees[0].tokens[:shared], np.empty(0, np.int64), tuple(branches))
