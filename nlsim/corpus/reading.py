"""Documents become tokens, batch by batch. What has been read is kept, so that a stopped reading can go on."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nlsim import log
from nlsim.corpus.chat import encode_chat
from nlsim.corpus.documents import START, Document, Place, open_documents
from nlsim.corpus.splits import Split, assign
from nlsim.subject.tokenizer import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from nlsim.corpus.config import CorpusConfig, Source

BATCH = 64
"""Documents tokenized at a time."""
PART = 1 << 24
"""Characters after which what has been read is kept."""
DIGEST = 16
"""Bytes that tell one text from another."""


class Text(NamedTuple):
    """A document as tokens."""

    name: str
    split: Split
    tokens: NDArray[np.int32]


class Keeper(Protocol):
    """Where bytes are kept for a later attempt: `nlsim.store.writer.ShardWriter`."""

    def keep(self, name: str, data: bytes) -> None:
        """Keep bytes under a name."""
        ...

    def kept(self, name: str) -> bytes | None:
        """What was kept under a name, None for nothing."""
        ...


class Part(NamedTuple):
    """A stretch of a source, as it is kept."""

    texts: list[Text]
    """Documents of the splits that have a budget."""
    seen: list[bytes]
    """Digests of all documents."""
    begin: Place
    place: Place
    """Where it ends."""

    def pack(self) -> bytes:
        """The part as a NumPy archive, its SHA-256 in front."""
        packed = io.BytesIO()
        names = [text.name for text in self.texts]
        facts = json.dumps({"names": names, "begin": self.begin, "place": self.place}).encode()
        np.savez(
            packed,
            tokens=np.concatenate([np.zeros(0, np.int32), *(text.tokens for text in self.texts)]),
            length=np.array([len(text.tokens) for text in self.texts], np.int64),
            split=np.array([text.split for text in self.texts], np.uint8),
            seen=np.frombuffer(b"".join(self.seen), np.uint8).reshape(-1, DIGEST),
            facts=np.frombuffer(facts, np.uint8),
        )
        return hashlib.sha256(packed.getvalue()).digest() + packed.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Part | None:
        """What `pack` packed; None for anything else, such as what another version of nlsim kept."""
        digest, packed = data[:32], data[32:]
        if hashlib.sha256(packed).digest() != digest:
            return None
        try:
            with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
                facts = json.loads(arrays["facts"].tobytes())
                cut = np.split(arrays["tokens"], np.cumsum(arrays["length"])[:-1])
                texts = [
                    Text(name, Split(split), tokens)
                    for name, split, tokens in zip(facts["names"], arrays["split"].tolist(), cut, strict=False)
                ]
                seen = [row.tobytes() for row in arrays["seen"]]
                return cls(texts, seen, Place(*facts["begin"]), Place(*facts["place"]))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None


class Reading:
    """A source being read: what earlier attempts read of it, and the documents that come after."""

    def __init__(self, source: Source, keeper: Keeper) -> None:
        """Raises as `open_documents`."""
        self._keeper, self._parts = keeper, 0
        self.texts: list[Text] = []
        self.seen: list[bytes] = []
        place = START
        while (data := keeper.kept(self._name)) is not None and (part := Part.unpack(data)) is not None:
            if part.begin != place:  # another attempt's, which cut the source elsewhere
                break
            self.texts += part.texts
            self.seen += part.seen
            place = part.place
            self._parts += 1
        if self._parts:
            log.event("reading goes on", documents=place.documents)
        self.documents = open_documents(source, place)
        self._new, self._characters = Part([], [], place, place), 0

    def add(self, texts: Sequence[Text], seen: Sequence[bytes], characters: int) -> None:
        """Take note of a batch of `documents`, and keep a part once it is large enough."""
        self._new.texts.extend(texts)
        self._new.seen.extend(seen)
        self._new = self._new._replace(place=self.documents.place)
        self._characters += characters
        if self._characters >= PART:
            self.keep()

    def keep(self) -> None:
        """Keep what has been noted since the last part."""
        if self._new.seen:
            self._keeper.keep(self._name, self._new.pack())
            self._parts += 1
            self._new, self._characters = Part([], [], self._new.place, self._new.place), 0

    @property
    def _name(self) -> str:
        """Under which the next part is kept."""
        return f"text-{self._parts:06d}"


def tokenized(
    documents: Iterable[Document] | Reading, tokenizer: PreTrainedTokenizerFast, config: CorpusConfig
) -> Iterator[list[Text]]:
    """Batches of documents as tokens; what a `Reading` brings along comes first, as one.

    A text that occurred before is skipped, so that no text is on two sides of a split; documents of splits without a
    budget are left out.
    """
    reading = documents if isinstance(documents, Reading) else None
    following: Iterable[Document] = documents.documents if isinstance(documents, Reading) else documents
    left, seen = config.max_documents, set[bytes]()
    if reading is not None:
        yield reading.texts
        seen.update(reading.seen)
        left = None if left is None else left - reading.documents.place.documents
    for batch in _batches(_distinct(islice(following, left), seen)):
        assigned = [(document, assign(config.seed, document.name, config.fractions)) for _, document in batch]
        needed = [(document, split) for document, split in assigned if getattr(config.rows, split.key)]
        texts = [
            Text(document.name, split, tokens)
            for (document, split), tokens in zip(needed, encoded(tokenizer, [d for d, _ in needed]), strict=True)
        ]
        if reading is not None:
            reading.add(texts, [digest for digest, _ in batch], sum(len(document.text) for _, document in batch))
        yield texts


def encoded(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> list[NDArray[np.int32]]:
    """The tokens of each document; a conversation is written by the tokenizer's chat template."""
    plain = iter(encode(tokenizer, [document.text for document in documents if not document.messages]))
    return [encode_chat(tokenizer, d.messages) if d.messages else next(plain) for d in documents]


def _distinct(documents: Iterable[Document], seen: set[bytes]) -> Iterator[tuple[bytes, Document]]:
    """Documents whose text has not occurred before, each with the digest of its text."""
    for document in documents:
        key = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest()[:DIGEST]
        if key not in seen:
            seen.add(key)
            yield key, document


def _batches(documents: Iterator[tuple[bytes, Document]]) -> Iterator[list[tuple[bytes, Document]]]:
    while batch := list(islice(documents, BATCH)):
        yield batch
