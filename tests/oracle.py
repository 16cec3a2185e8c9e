"""A language model that reads explanations of the planted model's latents and is always right: an engine for tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from byte_models import byte_tokenizer

from nlsim.coders.planted import LATENTS
from nlsim.lm.engine import Choices, Generation, Sampling
from nlsim.lm.prompts import IntArray, PromptTree, flatten

Predicate = Callable[[str, str | None], bool]
"""(word, word before) → active"""

SURE = 0.999


def understood(explanation: str) -> Predicate:
    """What the explanation says, from its words; of an explanation it does not know nothing is active."""
    for latent in LATENTS:
        if latent.explanation == explanation:
            return latent.active
    return lambda _word, _before: False


class Oracle:
    """Answers simulation, detection and fuzzing prompts from their text alone."""

    name = "oracle"

    def __init__(self) -> None:
        self.tokenizer = byte_tokenizer()
        self.calls = 0

    def choose(self, trees: Iterable[PromptTree], choices: Sequence[int]) -> Iterator[Choices]:
        """Nearly all probability on the right answer: the highest choice for active, the lowest for silent."""
        self.calls += 1
        for tree in trees:
            rows = [
                self._answer(active, len(choices))
                for tokens, reads in flatten(tree)
                for active in answers(self.tokenizer.decode(tokens.tolist()), reads.tolist())
            ]
            yield Choices(np.log(np.array(rows, np.float32)))

    @staticmethod
    def _answer(active: bool, choices: int) -> list[float]:
        row = [(1 - SURE) / (choices - 1)] * choices
        row[-1 if active else 0] = SURE
        return row

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        """It only reads."""
        raise NotImplementedError

    def facts(self) -> dict[str, str]:
        """See `Engine`."""
        return {"engine": self.name}

    def close(self) -> None:
        """See `Engine`."""


def answers(prompt: str, reads: Sequence[int]) -> Iterator[bool]:
    """What is asked at each read of a prompt; one character is one token, as planted texts are plain ASCII."""
    start = prompt.rindex("Feature: ")
    explanation, _, rest = prompt[start:].removeprefix("Feature: ").partition("\n\n")
    active = understood(explanation)
    if rest.startswith("Text, token by token:\n"):
        lines_from = len(prompt) - len(rest.removeprefix("Text, token by token:\n"))
        for read in reads:
            words = [line.partition("\t")[0].strip() for line in _upto(prompt, read)[lines_from:].split("\n")]
            yield active(words[-1], words[-2] if len(words) > 1 else None)
    elif rest.startswith("Text:\n"):
        words = re.sub("[«»]", " ", rest.removeprefix("Text:\n").rpartition("\n")[0]).split()
        yield active(words[-1], words[-2] if len(words) > 1 else None)
    else:
        number = re.findall(r"Text (\d+): $", prompt)[0]
        text = re.findall(rf"^Text {number}: (.*)$", rest, re.MULTILINE)[0]
        spans = [(span, marked) for marked, span in _spans(text)]
        words, marks = [], []
        for span, marked in spans:
            words += span.split()
            marks += [marked] * len(span.split())
        found = [active(word, before) for word, before in zip(words, [None, *words[:-1]], strict=True)]
        yield all(a for a, m in zip(found, marks, strict=True) if m) if any(marks) else any(found)


def _upto(prompt: str, read: int) -> str:
    """The prompt up to a token. Guillemets in the instructions are two bytes each."""
    return prompt.encode()[: read + 1].decode()


def _spans(text: str) -> Iterator[tuple[bool, str]]:
    for number, span in enumerate(re.split("[«»]", text)):
        yield number % 2 == 1, span


def count_reads(tree: PromptTree) -> int:
    """Distributions wanted from a trie."""
    return sum(len(reads) for _, reads in flatten(tree))
