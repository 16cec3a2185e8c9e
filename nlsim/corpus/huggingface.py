"""Documents from a Hugging Face data set."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nlsim.corpus.chat import text_or_turns
from nlsim.corpus.config import HuggingFaceSource
from nlsim.corpus.documents import Document
from nlsim.errors import DataError, UsageError
from nlsim.store.cache import file_sha256


def dataset_documents(source: HuggingFaceSource) -> Iterator[Document]:
    """The split's rows in order; a document's name is the row's number.

    Raises UsageError when the `datasets` library is missing, DataError when the data set, split or column is.
    """
    rows = _open(source)
    for number, row in enumerate(_read(rows, source)):
        text, turns = text_or_turns(row[source.column], source.path, source.column)
        yield Document(f"{source.split}:{number}", text, turns)


def dataset_identity(source: HuggingFaceSource) -> dict[str, str]:
    """Digests of local data files; for a hub data set its revision (`main` moves: give a commit)."""
    local = [Path(file) for file in source.data_files if Path(file).is_file()]
    if Path(source.path).is_dir():
        local += sorted(file for file in Path(source.path).rglob("*") if file.is_file())
    return {f"file {number}": file_sha256(file) for number, file in enumerate(local)} or {
        "revision": source.revision or "main"
    }


def _open(source: HuggingFaceSource) -> Iterable[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "reading a Hugging Face data set needs the library", "pip install 'nlsim[datasets]'"
        ) from error

    datasets.disable_progress_bars()
    try:
        if (Path(source.path) / "state.json").is_file() or (Path(source.path) / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(source.path)  # the form that Dataset.save_to_disk writes
            return saved[source.split] if isinstance(saved, datasets.DatasetDict) else saved
        return datasets.load_dataset(
            source.path,
            source.name,
            split=source.split,
            revision=source.revision,
            data_files=list(source.data_files) or None,
            streaming=source.streaming,
        )
    except KeyError as error:
        raise DataError(f"{source.path} has no split {source.split!r}", f"there are: {', '.join(saved)}") from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(
            f"cannot open the data set {source.path} ({reason})",
            "check its name, configuration and split, and the network",
        ) from error


def _read(rows: Iterable[Mapping[str, Any]], source: HuggingFaceSource) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        if source.column not in row:
            known = ", ".join(sorted(row))
            raise DataError(
                f"{source.path} has no column {source.column!r}", f"set corpus.source.column; there are: {known}"
            )
        yield row
