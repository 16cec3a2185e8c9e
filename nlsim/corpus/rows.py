"""Documents to rows of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlsim.corpus.config import CorpusConfig
from nlsim.corpus.documents import Document
from nlsim.corpus.pieces import Pieces, token_pieces
from nlsim.corpus.reading import Reading, Text, tokenized
from nlsim.corpus.splits import Split, unit_hash
from nlsim.errors import DataError
from nlsim.subject.tokenizer import bos_token

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SURPLUS = 4
"""Reading stops when each split has this many times its budget, so that the rows kept come from many documents."""
_UNSPACED = ((0x0E00, 0x1000), (0x1780, 0x1800), (0x2E80, 0xA000), (0x20000, 0x32000))
"""Thai, Lao, Tibetan; Khmer; Chinese and Japanese: scripts that put no space between words."""


class Rows(NamedTuple):
    """Rows sorted by split; inside a split in a seeded random order."""

    tokens: NDArray[np.int32]
    """[rows, context] BOS, then consecutive tokens of one document, then zeros."""
    length: NDArray[np.int32]
    """[rows] tokens that are not padding, BOS included."""
    document: NDArray[np.int32]
    """[rows] index into `names`."""
    start: NDArray[np.int32]
    """[rows] place in the document of the row's first token after BOS."""
    split: NDArray[np.uint8]
    """[rows] a `Split`."""
    names: list[str]
    """Names of the documents that have rows, in reading order."""
    document_split: NDArray[np.uint8]
    """[documents]"""
    document_tokens: NDArray[np.int32]
    """[documents] tokens of the whole document."""

    def of(self, split: Split) -> NDArray[np.int64]:
        """Numbers of the rows of a split, ascending."""
        return np.flatnonzero(self.split == split)


class _Candidate(NamedTuple):
    rank: float
    """A hash: rows are taken in its order, so a larger budget keeps the rows of a smaller one."""
    document: int
    start: int
    end: int


def build_rows(
    documents: Iterable[Document] | Reading,
    tokenizer: PreTrainedTokenizerFast,
    config: CorpusConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Rows:
    """Cut documents into rows and choose each split's budget of them.

    A row is BOS and at most `context - 1` consecutive tokens of one document; a document is cut before white space
    (see `cut_rows`). A text that occurred before is skipped, so that no text is on two sides of a split. `progress`
    is told how many of the wanted rows there are. Raises DataError for an empty corpus and for a split without rows.
    """
    pieces = token_pieces(tokenizer)
    boundary = Boundaries(pieces)
    budgets = {split: int(getattr(config.rows, split.key)) for split in Split}
    candidates: dict[Split, list[_Candidate]] = {split: [] for split in Split}
    read: list[Text] = []
    wanted = sum(budgets.values())
    for batch in tokenized(documents, tokenizer, config):
        for text in batch:
            spans = cut_rows(text.tokens, boundary, config.context - 1, config.min_tokens)
            for start, end in spans:
                rank = unit_hash("row", config.seed, text.name, start)
                candidates[text.split].append(_Candidate(rank, len(read), start, end))
            read.append(text)
        if progress is not None:
            progress(sum(min(len(candidates[split]), budgets[split]) for split in Split), wanted)
        if all(len(candidates[split]) >= _SURPLUS * budget for split, budget in budgets.items()):
            break
    if not any(candidates.values()):
        raise DataError(
            f"the corpus has no text of {config.min_tokens} tokens or more", "check corpus.source and corpus.min_tokens"
        )
    for split, budget in budgets.items():
        if budget and not candidates[split]:
            count = sum(text.split == split for text in read)
            raise DataError(
                f"no row for the split {split.key}: it has {count} of the {len(read)} documents",
                "add documents, change corpus.seed or corpus.fractions, "
                f"or ask for no rows with corpus.rows.{split.key}=0",
            )
    chosen = [c for split in Split for c in sorted(candidates[split])[: budgets[split]]]
    return _assemble(chosen, read, bos_token(tokenizer), config.context)


class Boundaries:
    """How good a place between two tokens is to cut a document: see `quality`."""

    def __init__(self, pieces: Pieces) -> None:
        texts = [piece.decode("utf-8", "ignore") for piece in pieces.bytes]
        self.starts_space = np.array([text[:1].isspace() for text in texts])
        self.ends_space = np.array([text[-1:].isspace() for text in texts])
        self.starts_word = np.array([_is_word(text[:1]) for text in texts])
        self.ends_word = np.array([_is_word(text[-1:]) for text in texts])
        self.inside = np.array([piece[:1] != b"" and 0x80 <= piece[0] < 0xC0 for piece in pieces.bytes])

    def quality(self, tokens: NDArray[np.int32]) -> NDArray[np.int8]:
        """[tokens + 1] of the place before each token and at the end.

        3: beside white space. 2: between two characters that do not belong to one word (punctuation, or a script
        written without spaces). 1: inside a word. 0: inside a character.
        """
        left, right = tokens[:-1], tokens[1:]
        quality = np.full(len(tokens) + 1, 3, np.int8)
        inner = np.where(self.ends_word[left] & self.starts_word[right], 1, 2)
        inner = np.where(self.ends_space[left] | self.starts_space[right], 3, inner)
        quality[1:-1] = np.where(self.inside[right], 0, inner)
        return quality


def cut_rows(
    tokens: NDArray[np.int32], boundaries: Boundaries, room: int, min_tokens: int = 1
) -> list[tuple[int, int]]:
    """[start, end) of consecutive rows of at most `room` tokens; spans shorter than `min_tokens` are left out.

    A row ends at the last of the best places in its second half: beside white space in all but texts without any, so
    no word is cut. Words that are longer than half a row are cut at punctuation, else between characters.
    """
    if len(tokens) == 0:
        return []
    quality = boundaries.quality(tokens)
    spans, start = [], 0
    while start < len(tokens):
        end = min(start + room, len(tokens))
        if end < len(tokens):
            first = start + room // 2 + 1
            places = quality[first : end + 1]
            end = first + int(np.flatnonzero(places == places.max())[-1])
        if end - start >= min_tokens:
            spans.append((start, end))
        start = end
    return spans


def _is_word(character: str) -> bool:
    """Letters, digits, apostrophes of scripts that put spaces between words. An undecodable byte counts as a letter."""
    if not character:
        return True
    code = ord(character)
    unspaced = any(low <= code < high for low, high in _UNSPACED)
    return (character.isalnum() or character in "_'’") and not unspaced


def _assemble(chosen: list[_Candidate], read: list[Text], bos: int, context: int) -> Rows:
    kept = sorted({candidate.document for candidate in chosen})
    number = {document: i for i, document in enumerate(kept)}
    tokens = np.zeros((len(chosen), context), np.int32)
    tokens[:, 0] = bos
    for row, candidate in enumerate(chosen):
        text = read[candidate.document].tokens[candidate.start : candidate.end]
        tokens[row, 1 : 1 + len(text)] = text
    return Rows(
        tokens=tokens,
        length=np.array([1 + c.end - c.start for c in chosen], np.int32),
        document=np.array([number[c.document] for c in chosen], np.int32),
        start=np.array([c.start for c in chosen], np.int32),
        split=np.array([read[c.document].split for c in chosen], np.uint8),
        names=[read[document].name for document in kept],
        document_split=np.array([read[document].split for document in kept], np.uint8),
        document_tokens=np.array([len(read[document].tokens) for document in kept], np.int32),
    )
