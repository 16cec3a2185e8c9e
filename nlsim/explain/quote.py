"""How tokens are written inside explanations: “ return”, “⏎”. The space before a word is part of its token."""

import re
from collections.abc import Iterator
from typing import NamedTuple

NEWLINE, TAB, SPACE = "⏎", "⇥", "␣"
_STRAIGHT = str.maketrans("“”", '""')
_QUOTED = re.compile("“([^“”]*)”")


def visible(piece: str) -> str:
    """A token's text with everything that cannot be seen made visible: line ends, tabs, and spaces that stand alone."""
    if piece and not piece.strip(" "):
        return SPACE * len(piece)
    return piece.replace("\n", NEWLINE).replace("\r", "").replace("\t", TAB)


def quote(*pieces: str) -> str:
    """Consecutive tokens between typographic quotation marks, which therefore cannot occur inside."""
    text = "".join(visible(piece) for piece in pieces).translate(_STRAIGHT)
    return f"“{text}”"


class Span(NamedTuple):
    """A stretch of an explanation."""

    text: str
    quoted: bool
    """Whether it is a quotation (given without its marks)."""


def spans(explanation: str) -> Iterator[Span]:
    """An explanation cut into prose and quotations, in order."""
    end = 0
    for match in _QUOTED.finditer(explanation):
        if match.start() > end:
            yield Span(explanation[end : match.start()], False)
        yield Span(match.group(1), True)
        end = match.end()
    if end < len(explanation):
        yield Span(explanation[end:], False)
