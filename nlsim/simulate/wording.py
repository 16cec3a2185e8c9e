"""What other models than our own simulator are told: instructions and worked examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nlsim.explain.quote import visible

OPEN, CLOSE = "«", "»"


class WorkedExample(NamedTuple):
    """A made-up latent on a made-up text."""

    explanation: str
    pieces: tuple[str, ...]
    strengths: tuple[int, ...]
    """0 to 9 for each piece."""
    target: int
    """The marked piece where one is marked."""
    score: float
    """What it would have scored, where scores are shown."""

    def shown(self, scored: bool) -> str:
        """The explanation as a prompt shows it."""
        return with_score(self.explanation, self.score) if scored else self.explanation


EXAMPLES = (
    WorkedExample(
        "units of length after a number",
        ("The", " plank", " is", " 3", " metres", " long", ",", " not", " a", " metre"),
        (0, 0, 0, 1, 9, 1, 0, 0, 0, 3),
        4,
        0.91,
    ),
    WorkedExample(
        "words that announce a reason, such as because or since",
        ("She", " left", " early", " since", " the", " train", " was", " late", "."),
        (0, 0, 0, 8, 1, 0, 0, 0, 0),
        7,
        0.78,
    ),
    WorkedExample(
        "the closing bracket of a function call",
        ("x", " =", " sorted", "(", "names", ")", "\n", "print", "(", "x"),
        (0, 0, 0, 1, 1, 9, 0, 0, 0, 0),
        9,
        0.97,
    ),
    WorkedExample(
        "names of months in dates",
        ("Born", " on", " 4", " May", " 1931", ",", " he", " may", " have", " known"),
        (0, 0, 2, 9, 1, 0, 0, 0, 0, 0),
        3,
        0.66,
    ),
)


class Wording(NamedTuple):
    """How one kind of question is put."""

    last: str
    """Instructions for one marked token."""
    all: str
    """Instructions for every token of a text."""
    opening: str
    """What the answer begins with."""
    answers: tuple[str, ...]
    answer: Callable[[int], str]
    """The answer for a strength of 0 to 9."""


_FEATURE = (
    "You study the inner features of a language model. A feature responds to some tokens of a text, as its description "
    "says. Most features are silent at almost every token: a text on the described subject is no reason to expect "
    "activity at a token that does not itself fit. "
)
_LAST = f"Judge only the last token, between {OPEN} and {CLOSE}. "
_ALL = "The text is given one token per line. After each token and a tab stands "

WORDINGS = {
    "digit": Wording(
        last=_FEATURE
        + _LAST
        + "Answer with the strength of the feature there: 0 for silent, 1 for a trace, up to 9 for "
        "the strongest response. Small strengths are commoner than large ones.",
        all=_FEATURE + _ALL + "the strength of the feature at that token, judged from the text so far: 0 for silent, 1 "
        "for a trace, up to 9 for the strongest response.",
        opening="Strength: ",
        answers=tuple("0123456789"),
        answer=str,
    ),
    "binary": Wording(
        last=_FEATURE + _LAST + "Answer 1 if the feature is active there, 0 if it is silent.",
        all=_FEATURE + _ALL + "1 if the feature is active at that token, judged from the text so far, else 0.",
        opening="Active: ",
        answers=("0", "1"),
        answer=lambda strength: str(int(strength > 0)),
    ),
}


SCORED = (
    " Each description comes with its score between 0.5 (no better than chance) and 1 (it always told active from "
    "silent texts): the higher the score, the surer you may be, either way."
)


def with_score(explanation: str, score: float | None) -> str:
    """The explanation with its score on a line of its own."""
    known = score is not None and math.isfinite(score)
    return f"{explanation}\nScore of the description: {f'{score:.2f}' if known else 'unknown'}"


def question(explanation: str, text: str | None = None, text_first: bool = False) -> str:
    """The user's turn. What comes first is computed once for all that may follow it."""
    feature = f"Feature: {explanation}"
    if text is None:
        return f"{feature}\n\nText, token by token:"
    return f"Text:\n{text}\n\n{feature}" if text_first else f"{feature}\n\nText:\n{text}"


def marked(pieces: Sequence[str], target: int) -> str:
    """The text up to and with one token, which is put between marks."""
    return "".join(pieces[:target]) + OPEN + pieces[target] + CLOSE


def one_line(piece: str) -> str:
    """A token on a line of its own: line ends and tabs made visible, spaces kept."""
    return visible(piece)
