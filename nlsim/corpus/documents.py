"""Named documents, whatever they come from."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from nlsim.corpus.chat import Message
from nlsim.corpus.config import BuiltinSource, FilesSource, Source, TokensSource
from nlsim.errors import UsageError


class Document(NamedTuple):
    """A piece of text that belongs together; its name decides its split."""

    name: str
    text: str
    messages: tuple[Message, ...] = ()
    """The turns of a conversation; `text` is then only what tells it from others."""


class Place(NamedTuple):
    """How far a source has been read; plain JSON."""

    documents: int = 0
    """Documents read."""
    stream: dict[str, Any] | None = None
    """What else a streamed data set needs to go on there (see `huggingface`); None: documents are counted off."""


START = Place()


class Documents(Iterator[Document]):
    """A source's documents in a fixed order, read as they are asked for."""

    def __init__(
        self, documents: Iterator[Document], read: int, stream: Callable[[], dict[str, Any] | None] = lambda: None
    ) -> None:
        """`read`: documents before the first of `documents`; `stream`: gives `Place.stream`."""
        self._documents, self._read, self._stream = documents, read, stream

    def __next__(self) -> Document:
        document = next(self._documents)
        self._read += 1
        return document

    @property
    def place(self) -> Place:
        """The place of the next document, at which `open_documents` can begin."""
        return Place(self._read, self._stream())


def open_documents(source: Source, place: Place = START) -> Documents:
    """The source's documents from a place on.

    Raises DataError when the source is missing, unreadable, or lacks the column; TransientError when a download fails.
    """
    if isinstance(source, TokensSource):
        raise UsageError("a file of tokens has no text", "name a source of text")
    if isinstance(source, BuiltinSource):
        from nlsim.corpus.builtin import builtin_documents

        found = iter(builtin_documents())
    elif isinstance(source, FilesSource):
        from nlsim.corpus.files import file_documents

        found = file_documents(source)
    else:
        from nlsim.corpus.huggingface import dataset_documents

        return dataset_documents(source, place)
    return Documents(islice(found, place.documents, None), place.documents)


def source_identity(source: Source) -> dict[str, str]:
    """What pins down the content beyond the configuration: digests of local text, a hub data set's revision."""
    if isinstance(source, BuiltinSource):
        from nlsim.corpus.builtin import builtin_identity

        return builtin_identity()
    if isinstance(source, FilesSource):
        from nlsim.corpus.files import files_identity

        return files_identity(source)
    if isinstance(source, TokensSource):
        from nlsim.corpus.tokenfiles import tokens_identity

        return tokens_identity(source)
    from nlsim.corpus.huggingface import dataset_identity

    return dataset_identity(source)
