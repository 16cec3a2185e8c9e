"""Named documents, whatever they come from."""

from collections.abc import Iterator
from typing import NamedTuple

from nlsim.corpus.chat import Message
from nlsim.corpus.config import BuiltinSource, FilesSource, Source, TokensSource
from nlsim.errors import UsageError


class Document(NamedTuple):
    """A piece of text that belongs together; its name decides its split."""

    name: str
    text: str
    messages: tuple[Message, ...] = ()
    """The turns of a conversation; `text` is then only what tells it from others."""


def open_documents(source: Source) -> Iterator[Document]:
    """The source's documents in a fixed order, read as they are asked for.

    Raises DataError when the source is missing, unreadable, or lacks the column.
    """
    if isinstance(source, BuiltinSource):
        from nlsim.corpus.builtin import builtin_documents

        return iter(builtin_documents())
    if isinstance(source, FilesSource):
        from nlsim.corpus.files import file_documents

        return file_documents(source)
    if isinstance(source, TokensSource):
        raise UsageError("a file of tokens has no text", "name a source of text")
    from nlsim.corpus.huggingface import dataset_documents

    return dataset_documents(source)


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
