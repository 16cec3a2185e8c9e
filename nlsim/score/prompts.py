"""Scoring prompts: does the explanation fit this context? Answers are next-token distributions over 0 and 1, never
text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from nlsim.lm.prompts import PromptTree, common_prefix, from_prompts
from nlsim.lm.simulator import is_simulator
from nlsim.lm.templates import Message, Template
from nlsim.metrics.distribution import choice_distribution
from nlsim.score.questions import Question, Scorer, marked_text
from nlsim.score.results import probability_of_yes

if TYPE_CHECKING:
    from nlsim.lm.config import LmConfig
    from nlsim.lm.engine import Engine

Floats = npt.NDArray[np.float64]

_INTRODUCTION = (
    "You study the inner features of a language model. A feature responds to tokens as its description says. "
)
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
    """Tokens that stand for the answers."""

    def tree(self, explanation: str, questions: Sequence[Question]) -> PromptTree:
        """One trie for the questions about one latent."""

    def probability(self, questions: Sequence[Question], logprobs_RC: npt.ArrayLike) -> Floats:
        """[questions] probability of "yes" from what was read on that trie; NaN for a failed answer."""


def scoring_prompts(scorer: Scorer, batch: int, lm: LmConfig, engine: Engine) -> ScoringPrompts:
    """The prompts that suit the model."""
    if is_simulator(lm):
        return SimulatorScoring(scorer, engine)
    return InstructedScoring(scorer, batch, Template(engine.tokenizer, lm.template, lm.date))


class SimulatorScoring:
    """Scores by simulation: nlsim's own simulator says how active the latent is at every token of a context.

    With p the probability of a digit above 0 at a token, detection's answer is 1 - Π(1 - p) over the context's tokens
    and fuzzing's the mean of p over the marked ones. As many questions are to be answered with yes as with no, which
    the simulator cannot know: each answer's odds are divided by those of the latent's mean answer (Bayes' rule).
    """

    def __init__(self, scorer: Scorer, engine: Engine) -> None:
        from nlsim.simulator.text import SimulatorText

        self._text = SimulatorText.of(engine.tokenizer)
        self._scorer = scorer
        self.choices: tuple[int, ...] = tuple(self._text.digits)

    def tree(self, explanation: str, questions: Sequence[Question]) -> PromptTree:
        """See `ScoringPrompts`; one read per token."""
        windows = (self._text.window(question.pieces) for question in questions)
        leaves = tuple(PromptTree(window.tokens, window.ends) for window in windows)
        return PromptTree(self._text.prefix(explanation), np.empty(0, np.int64), leaves)

    def probability(self, questions: Sequence[Question], logprobs_RC: npt.ArrayLike) -> Floats:
        """See `ScoringPrompts`."""
        active_R = 1.0 - choice_distribution(np.asarray(logprobs_RC, np.float64))[:, 0]
        ends = np.cumsum([len(question.pieces) for question in questions])
        parts = np.split(active_R, ends[:-1])
        if self._scorer == "fuzzing":
            raw_N = np.array([p[np.asarray(q.marked, bool)].mean() for p, q in zip(parts, questions, strict=True)])
        else:
            raw_N = np.array([1.0 - np.prod(1.0 - p) for p in parts])
        return balanced(raw_N)


def balanced(probability_N: Floats) -> Floats:
    """Probabilities whose odds are divided by the odds of their mean: for questions of which half are true."""
    kept_N = np.clip(probability_N, 1e-6, 1 - 1e-6)
    base = float(np.nanmean(kept_N)) if np.isfinite(kept_N).any() else 0.5
    yes_N, no_N = kept_N * (1 - base), (1 - kept_N) * base
    return np.asarray(yes_N / (yes_N + no_N), np.float64)


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

    def probability(self, questions: Sequence[Question], logprobs_RC: npt.ArrayLike) -> Floats:  # noqa: ARG002
        """See `ScoringPrompts`: one read per question."""
        return probability_of_yes(logprobs_RC)

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
