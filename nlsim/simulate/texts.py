"""Windows as text, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.corpus.pieces import Pieces
from nlsim.explain.explainer import read_pieces
from nlsim.simulate.prompts import Text

if TYPE_CHECKING:
    from nlsim.simulate.windows import Windows
    from nlsim.store.artifact import Artifact


def window_texts(tokens: Artifact, windows: Windows) -> list[Text]:
    """The text of every window, as the strings of its tokens, and which of them are read."""
    tokens_RT = tokens.arrays(0, "rows")["tokens"]
    pieces = Pieces(read_pieces(tokens))
    found = []
    for i, (row, start, length) in enumerate(zip(windows.row_N, windows.start_N, windows.length_N, strict=True)):
        strings = pieces.strings(tokens_RT[row, start : start + length])
        found.append(Text(strings, [int(offset) for offset in windows.offsets(i)]))
    return found
