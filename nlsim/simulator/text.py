"""What the simulator reads: explanations and windows of text as token ids of its own tokenizer.

A prompt is `<|simulate|>`, the explanation, `<|text|>`, and the text. The pieces (tokens of the subject, or of any
model) are tokenized one by one, so that each ends at a token boundary and a quoted piece in the explanation has the
very tokens that it has in the text. Prediction for a piece is the next-token distribution after the last token of the
piece: a digit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.errors import UsageError
from nlsim.explain.lexical import FREQUENCIES
from nlsim.explain.quote import spans, visible

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ints = npt.NDArray[np.int64]


BEGIN, TEXT, PAD = "<|simulate|>", "<|text|>", "<|pad|>"
BASE, OTHERS = "<|fires|>", "<|others|>"
BROKEN = "\ufffd"
DIGITS = tuple("0123456789")
WORDS = tuple(word for _, word in FREQUENCIES)


def level(word: str, strength: int) -> str:
    """The token for a frequency and a strength, the heading of a group of tokens."""
    return f"<|{word}|>" if word == "never" else f"<|{word} {strength}|>"


LEVELS = tuple(dict.fromkeys(level(word, strength) for word in WORDS for strength in range(1, 10)))
CONTEXTS = tuple(f"<|{sign} {place}|>" for place in ("after", "near", "start") for sign in ("more", "less"))
SPECIAL = (PAD, BEGIN, TEXT, BASE, OTHERS, *CONTEXTS, *LEVELS)

_LEVEL = rf"(?P<word>{'|'.join(WORDS)})(?:(?: at strength)? (?P<strength>[1-9]))?"
_PHRASE = re.compile(
    rf"(?P<heading>{_LEVEL}):|(?P<base>Fires) {_LEVEL.replace('P<', 'P<base_')}\.|"
    rf"(?P<others>Other tokens): {_LEVEL.replace('P<', 'P<others_')}\.|"
    r"(?P<context>(?P<sign>More|Less) (?P<place>after|near)):|(?P<start>More|Less) at the start\.",
    re.IGNORECASE,
)
"""The phrases of the lexical explainer's language; each is one or two tokens."""


class Window(NamedTuple):
    """A text in the simulator's tokens."""

    tokens: Ints
    ends: Ints
    """[pieces] index of each piece's last token."""


class SimulatorText:
    """Tokenizes for the simulator; pieces are remembered, since texts repeat them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[str, list[int]] = {}
        self.special = {name: self.number(name) for name in SPECIAL}
        self.digits = [self.number(digit) for digit in DIGITS]

    @classmethod
    def of(cls, tokenizer: object) -> SimulatorText:
        """From the simulator's tokenizer as transformers loads it. Raises UsageError for another model's."""
        try:
            return cls(tokenizer.backend_tokenizer)  # type: ignore[attr-defined]
        except (AttributeError, KeyError) as error:
            raise UsageError(
                "this model's tokenizer is not that of an nlsim simulator", "use the folder that train-simulator wrote"
            ) from error

    def number(self, token: str) -> int:
        """Id of a token of the vocabulary. Raises KeyError when it is not one."""
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return int(found)

    def piece(self, text: str) -> list[int]:
        """Tokens of one piece of text, at least one: a piece that is a part of a character reads as a mark for it."""
        if text not in self._pieces:
            self._pieces[text] = self._tokenizer.encode(visible(text) or BROKEN, add_special_tokens=False).ids
        return self._pieces[text]

    def explanation(self, text: str) -> list[int]:
        """Tokens of an explanation.

        Quotations are tokenized as pieces, without their marks and the commas between them. The phrases that `describe`
        writes are single tokens, and a group's heading is repeated before each of its quotations, so that what is said
        of a token stands right before it. Everything else is read as the words it is.
        """
        ids: list[int] = []
        heading: list[int] = []
        for span in spans(text):
            if span.quoted:
                ids += heading + self.piece(span.text)
                continue
            end = 0
            for found in _PHRASE.finditer(span.text):
                ids += self._prose(span.text[end : found.start()])
                heading = []
                if found["heading"]:
                    heading = [self._level(found["word"], found["strength"])]
                elif found["context"]:
                    heading = [self.special[f"<|{found['sign'].lower()} {found['place'].lower()}|>"]]
                elif found["start"]:
                    ids.append(self.special[f"<|{found['start'].lower()} start|>"])
                else:
                    kind = "base" if found["base"] else "others"
                    ids.append(self.special[BASE if found["base"] else OTHERS])
                    ids.append(self._level(found[f"{kind}_word"], found[f"{kind}_strength"]))
                end = found.end()
            rest = span.text[end:]
            if rest.strip(" ,"):
                heading = []
            ids += self._prose(rest)
        return ids

    def _level(self, word: str, strength: str | None) -> int:
        return self.special[level(word.lower(), int(strength or 1))]

    def _prose(self, text: str) -> list[int]:
        words = text.strip(" ,.;")
        if not words:
            return []
        return list(self._tokenizer.encode(" " + words if words[0].isalpha() else words, add_special_tokens=False).ids)

    def prefix(self, explanation: str) -> Ints:
        """What stands before the text."""
        return np.array([self.special[BEGIN], *self.explanation(explanation), self.special[TEXT]], np.int64)

    def window(self, pieces: Sequence[str]) -> Window:
        """A text given piece by piece."""
        found = [self.piece(piece) for piece in pieces]
        ends = np.cumsum([len(tokens) for tokens in found], dtype=np.int64) - 1
        return Window(np.array([token for tokens in found for token in tokens], np.int64), ends)
