"""Documents from local text, JSON-lines and Parquet files."""

import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from nlsim.corpus.chat import Message, text_or_turns
from nlsim.corpus.config import FilesSource
from nlsim.corpus.documents import Document
from nlsim.errors import DataError
from nlsim.foreign import json_of, local_path, reason, well_formed
from nlsim.store.cache import file_sha256

_FORMATS = {".txt": "txt", ".text": "txt", ".md": "txt", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def file_documents(source: FilesSource) -> Iterator[Document]:
    """The files' documents, in order of path, then of place in the file.

    A document's name is its file's path below the files' common folder and its number in it, so that moving the
    folder changes no split. Raises DataError for no match, an unreadable file, or a missing field or column.
    """
    files = matched_files(source)
    root = Path(os.path.commonpath([file.parent for file in files]))
    for file in files:
        form = source.format if source.format != "auto" else _FORMATS.get(file.suffix.lower())
        if form is None:
            raise DataError(f"cannot tell the format of {file}", "set corpus.source.format to txt, jsonl or parquet")
        readers = {"txt": _read_txt, "jsonl": _read_jsonl, "parquet": _read_parquet}
        try:
            for number, (text, turns) in enumerate(readers[form](file, source)):
                yield Document(well_formed(f"{file.relative_to(root).as_posix()}:{number}"), text, turns)
        except OSError as error:
            raise DataError(f"cannot read {file} ({error.strerror or error})", "check its permissions") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 text (byte {error.start})", "convert it, e.g. with iconv") from error


def matched_files(source: FilesSource) -> list[Path]:
    """The files that the paths and patterns name, sorted, each once. A pattern or path without a file is an error."""
    found: set[Path] = set()
    for pattern in source.paths:
        matches = [Path(match) for match in glob(str(local_path(pattern)), recursive=True)]  # noqa: PTH207
        files = [match.resolve() for match in matches if match.is_file()]
        if not files:
            raise DataError(f"no file matches {pattern}", "check corpus.source.paths (relative to where nlsim runs)")
        found.update(files)
    return sorted(found)


def files_identity(source: FilesSource) -> dict[str, str]:
    """The digest of every file, by its number in reading order."""
    digests = {}
    for number, file in enumerate(matched_files(source)):
        try:
            digests[f"file {number}"] = file_sha256(file)
        except OSError as error:
            raise DataError(f"cannot read {file} ({error.strerror or error})", "check its permissions") from error
    return digests


def _read_txt(file: Path, source: FilesSource) -> Iterator[tuple[str, tuple[Message, ...]]]:
    text = file.read_text(encoding="utf-8")
    yield from ((part, ()) for part in (text.split(source.separator) if source.separator else (text,)))


def _read_jsonl(file: Path, source: FilesSource) -> Iterator[tuple[str, tuple[Message, ...]]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json_of(line)
            except ValueError as error:
                raise DataError(
                    f"{file}:{number} is not JSON ({reason(error)})", "each line must be one JSON object"
                ) from error
            fields = sorted(record) if isinstance(record, dict) else []
            if source.column not in fields:
                raise _no_column(f"{file}:{number}", source.column, fields)
            yield text_or_turns(record[source.column], f"{file}:{number}", source.column)


def _read_parquet(file: Path, source: FilesSource) -> Iterator[tuple[str, tuple[Message, ...]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        if source.column not in table.schema_arrow.names:
            raise _no_column(str(file), source.column, table.schema_arrow.names)
        for batch in table.iter_batches(columns=[source.column], batch_size=1024):
            for value in batch.column(0).to_pylist():
                yield text_or_turns(value, str(file), source.column)
    except pyarrow.ArrowException as error:
        what = f"{file} is not a readable Parquet file ({reason(error)})"
        raise DataError(what, "write or download it again") from error


def _no_column(where: str, column: str, known: list[str]) -> DataError:
    return DataError(f"{where} has no {column!r}", f"set corpus.source.column; there are: {', '.join(known) or 'none'}")
