"""Simulation prompts: one trie per explanation, with the windows as its leaves, so that each side is computed once.

Answers are read from the distribution of the next token, at every read, over the full vocabulary; nothing is sampled
and nothing is parsed. Two families: our own simulator's bare format, and instructions with worked examples for any
other model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from nlsim.errors import UsageError
from nlsim.lm.cost import explanation_first
from nlsim.lm.prompts import Grid, PromptTree, grid
from nlsim.lm.simulator import is_simulator
from nlsim.lm.templates import Forced, Message, Template
from nlsim.simulate.wording import EXAMPLES, SCORED, WORDINGS, Wording, marked, one_line, question

if TYPE_CHECKING:
    from nlsim.lm.config import LmConfig
    from nlsim.lm.templates import Tokenizer
    from nlsim.simulate.config import SimulateConfig

SENTINEL = "\u2402\u2403"
"""Stands in a message for what is filled in later; no text holds it (see `without_sentinel`)."""


class Text(NamedTuple):
    """A window's tokens as text, and which of them are read (ascending offsets)."""

    pieces: Sequence[str]
    reads: Sequence[int]


class Speaker(Protocol):
    """What prompts need of an engine."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""


class SimulationPrompts(Protocol):
    """Prompts of one run's windows."""

    choices: tuple[int, ...]
    """Tokens that stand for the answers: ten digits, or 0 and 1."""

    def trees(self, explanations: Sequence[str]) -> Iterator[PromptTree]:
        """One trie per explanation; its reads are those of the windows, in their order."""


def simulation_prompts(
    config: SimulateConfig, lm: LmConfig, engine: Speaker, texts: Sequence[Text]
) -> SimulationPrompts:
    """The prompts that suit the model."""
    if is_simulator(lm):
        return SimulatorPrompts(config, engine, texts)
    template = Template(engine.tokenizer, lm.template, lm.date)
    wording = WORDINGS[config.prompt]
    if config.positions == "last":
        return LastPrompts(config, template, texts, wording)
    return AllPrompts(config, template, texts, wording)


class SimulatorPrompts:
    """The simulator's own format: explanation, text; an answer after every token of the text."""

    def __init__(self, config: SimulateConfig, engine: Speaker, texts: Sequence[Text]) -> None:
        from nlsim.simulator.text import SimulatorText

        if config.show_score is not None:
            raise UsageError("nlsim's simulator was not trained with scores", "leave simulate.show_score out")
        if config.order == "text_first":
            raise UsageError("nlsim's simulator reads the explanation first", "leave simulate.order out")
        if config.prompt != "digit":
            raise UsageError("nlsim's simulator answers with digits", "set simulate.prompt to digit")
        self._text = SimulatorText.of(engine.tokenizer)
        self.choices = tuple(self._text.digits)
        windows = [self._text.window(text.pieces) for text in texts]
        self._leaves = tuple(
            PromptTree(window.tokens, window.ends[np.asarray(text.reads, np.int64)])
            for window, text in zip(windows, texts, strict=True)
        )

    def trees(self, explanations: Sequence[str]) -> Iterator[PromptTree]:
        """See `SimulationPrompts`."""
        nothing = np.empty(0, np.int64)
        return (PromptTree(self._text.prefix(text), nothing, self._leaves) for text in explanations)


class LastPrompts:
    """One prompt per window: the explanation, the text with its last token marked, and the answer's beginning."""

    def __init__(self, config: SimulateConfig, template: Template, texts: Sequence[Text], wording: Wording) -> None:
        """Raises UsageError for a tokenizer whose answers are not single tokens."""
        self._template, self._config, self._wording = template, config, wording
        self._forced: Forced = template.force(wording.opening, wording.answers)
        self.choices = self._forced.tokens
        self._texts = written(template, [marked(text.pieces, text.reads[-1]) for text in texts])

    def trees(self, explanations: Sequence[str]) -> Iterator[PromptTree]:
        """See `SimulationPrompts`."""
        around = [self._around(text) for text in explanations]
        texts = [text + after for _, after in around[:1] for text in self._texts]
        return self._grid([before for before, _ in around], texts).trees()

    def text_first(self, explanations: Sequence[str]) -> bool:
        """Whether the text comes first: as configured, or by the cost of all prompts of the run."""
        if self._config.order != "auto" or not explanations:
            return self._config.order == "text_first"
        mean, encode = np.mean, self._template.encode
        first, second = (float(mean([len(encode(one)) for one in many])) for many in (explanations, self._texts))
        return not explanation_first(len(explanations), len(self._texts), first, second)

    def trees_of_windows(self, explanations: Sequence[str]) -> Iterator[PromptTree]:
        """The text first: one trie per window; its reads are those of the explanations, in their order."""
        around = [self._around(text, text_first=True) for text in explanations]
        texts = [before + text for before, _ in around[:1] for text in self._texts]
        return self._grid(texts, [after for _, after in around]).trees()

    def _grid(self, prefixes: list[str], suffixes: list[str]) -> Grid:
        return grid(self._template.encode, prefixes, suffixes) if prefixes and suffixes else Grid((), ())

    def _around(self, explanation: str, text_first: bool = False) -> tuple[str, str]:
        """What stands before and after the text in the prompts of an explanation."""
        scored = self._config.show_score is not None
        shots = [
            turn
            for example in EXAMPLES[: self._config.shots]
            for turn in (
                Message("user", question(example.shown(scored), marked(example.pieces, example.target), text_first)),
                Message("assistant", self._wording.opening + self._wording.answer(example.strengths[example.target])),
            )
        ]
        system = self._wording.last + (SCORED if scored else "")
        asked = Message("user", question(without_sentinel(explanation), SENTINEL, text_first))
        whole = self._template.text([Message("system", system), *shots, asked], self._forced.opening)
        before, after = whole.split(SENTINEL)
        return before, after


def written(template: Template, texts: Sequence[str]) -> list[str]:
    """Texts as the template writes them inside a message: special tokens are broken up, so that none ends a turn."""
    whole = template.text([Message("user", SENTINEL + SENTINEL.join(map(without_sentinel, texts)) + SENTINEL)])
    return whole.split(SENTINEL)[1:-1]


def without_sentinel(text: str) -> str:
    """Foreign text with every sentinel in it broken up, so that it cannot move the ends of what is filled in."""
    return text.replace(SENTINEL, " ".join(SENTINEL))


class AllPrompts:
    """One prompt per window: the explanation, then the text token by token, each followed by a slot for its answer.

    The slots of a worked example are filled in; those of the question hold `?` once they have been read, so that no
    answer depends on another. Lines are tokenized one by one, which fixes where each slot is.
    """

    def __init__(self, config: SimulateConfig, template: Template, texts: Sequence[Text], wording: Wording) -> None:
        self._template, self._config, self._wording = template, config, wording
        self.choices = template.force("x\t", wording.answers).tokens
        self._leaves = tuple(self._leaf(text) for text in texts)

    def _leaf(self, text: Text) -> PromptTree:
        encode = self._template.tokenizer.encode
        filler = encode("?\n", add_special_tokens=False)
        wanted = set(text.reads)
        tokens: list[int] = []
        reads = []
        for i, line in enumerate(written(self._template, [f"{one_line(piece)}\t" for piece in text.pieces])):
            tokens += encode(line, add_special_tokens=False)
            if i in wanted:
                reads.append(len(tokens) - 1)
            tokens += filler
        end = reads[-1] + 1  # nothing after the last read is needed
        return PromptTree(np.array(tokens[:end], np.int64), np.array(reads, np.int64))

    def trees(self, explanations: Sequence[str]) -> Iterator[PromptTree]:
        """See `SimulationPrompts`."""
        scored = self._config.show_score is not None
        system = self._wording.all + (SCORED if scored else "")
        shots = []
        for example in EXAMPLES[: self._config.shots]:
            lines = "".join(
                f"{one_line(piece)}\t{self._wording.answer(strength)}\n"
                for piece, strength in zip(example.pieces, example.strengths, strict=True)
            )
            shots += [Message("user", question(example.shown(scored))), Message("assistant", lines.rstrip("\n"))]
        nothing = np.empty(0, np.int64)
        for explanation in explanations:
            turns = [Message("system", system), *shots, Message("user", question(explanation))]
            yield PromptTree(self._template.encode(self._template.text(turns)), nothing, self._leaves)
