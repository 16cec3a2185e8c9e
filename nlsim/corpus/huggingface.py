"""Documents from a Hugging Face data set."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nlsim.corpus.chat import text_or_turns
from nlsim.corpus.config import HuggingFaceSource
from nlsim.corpus.documents import START, Document, Documents, Place
from nlsim.errors import DataError, TransientError, UsageError
from nlsim.foreign import hub_remedy, local_path, reason
from nlsim.store.cache import file_sha256


def dataset_documents(source: HuggingFaceSource, place: Place = START) -> Documents:
    """The split's rows in order, from a place on; a document's name is the row's number.

    The place of a streamed data set holds the library's own state, with which it goes on without reading again what
    comes before, and the commit that was read, so that a data set that moves on meanwhile is read on as it was. Raises
    UsageError when the `datasets` library is missing, DataError when the data set, split or column is, TransientError
    when a download fails.
    """
    datasets = _library()
    before = place.stream or {}
    revision = before.get("revision") or _commit(source)
    rows = _open(source, revision)
    if before and before["library"] == datasets.__version__:
        rows.load_state_dict(before["state"])
    elif place.documents:
        rows = rows.skip(place.documents)

    def stream() -> dict[str, Any] | None:
        if not isinstance(rows, datasets.IterableDataset):
            return None
        return {"library": datasets.__version__, "revision": revision, "state": rows.state_dict()}

    return Documents(_documents(rows, source, place.documents), place.documents, stream)


def dataset_identity(source: HuggingFaceSource) -> dict[str, str]:
    """Digests of local data files; for a hub data set its revision (`main` moves: give a commit)."""
    local = [path for file in source.data_files if (path := local_path(file)).is_file()]
    folder = local_path(source.path)
    if folder.is_dir():
        local += sorted(file for file in folder.rglob("*") if file.is_file())
    return {f"file {number}": file_sha256(file) for number, file in enumerate(local)} or {
        "revision": source.revision or "main"
    }


def on_hub(source: HuggingFaceSource) -> bool:
    """Whether the data set is one of the hub: no local folder, no builder over files."""
    return not local_path(source.path).exists() and ("/" in source.path or not source.data_files)


def _at_home(name: str) -> str:
    """A name as the library takes it, which knows no `~`; others as they are: to it `./json` is not `json`."""
    return str(local_path(name)) if name.startswith("~") else name


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "reading a Hugging Face data set needs the library", "pip install 'nlsim[datasets]'"
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _commit(source: HuggingFaceSource) -> str | None:
    """The commit that a streamed data set of the hub is at now; for any other the configured revision."""
    if not source.streaming or not on_hub(source) or _offline():
        return source.revision
    import huggingface_hub

    try:
        found: str | None = huggingface_hub.HfApi().dataset_info(source.path, revision=source.revision).sha
    except Exception as error:  # the hub's client raises its HTTP library's errors where there is no network
        raise _cannot_open(source, error) from error
    return found


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _open(source: HuggingFaceSource, revision: str | None) -> Any:
    datasets = _library()
    path = _at_home(source.path)
    try:
        if (Path(path) / "state.json").is_file() or (Path(path) / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(path)  # the form that Dataset.save_to_disk writes
            return saved[source.split] if isinstance(saved, datasets.DatasetDict) else saved
        if on_hub(source) and _offline():
            from huggingface_hub import snapshot_download

            path = snapshot_download(path, repo_type="dataset", revision=revision, local_files_only=True)
        return datasets.load_dataset(
            path,
            source.name,
            split=source.split,
            revision=revision,
            data_files=[_at_home(file) for file in source.data_files] or None,
            streaming=source.streaming,
        )
    except KeyError as error:
        raise DataError(f"{path} has no split {source.split!r}", f"there are: {', '.join(saved)}") from error
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise _cannot_open(source, error) from error


def _cannot_open(source: HuggingFaceSource, error: Exception) -> DataError:
    todo = "check its name, configuration and split, and the network"
    if on_hub(source) and _offline():
        todo = "HF_HUB_OFFLINE is set: `nlsim plan` prints how to fetch it where there is a network"
    return DataError(f"cannot open the data set {source.path} ({reason(error)})", hub_remedy(error, todo))


def _documents(rows: Iterable[Mapping[str, Any]], source: HuggingFaceSource, first: int) -> Iterator[Document]:
    from datasets.exceptions import DatasetsError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its own: which library has changed

    iterator, number = iter(rows), first
    while True:
        try:
            row = next(iterator, None)
        except (OSError, httpx.HTTPError) as error:
            raise TransientError(
                f"reading the data set {source.path} failed ({reason(error)})",
                "run the same command again: it goes on from what has been read",
            ) from error
        except (ValueError, DatasetsError) as error:
            raise DataError(
                f"row {number} of the data set {source.path} cannot be read ({reason(error)})",
                "a file of it is damaged: fetch it again",
            ) from error
        if row is None:
            return
        if source.column not in row:
            known = ", ".join(sorted(row))
            raise DataError(
                f"{source.path} has no column {source.column!r}", f"set corpus.source.column; there are: {known}"
            )
        text, turns = text_or_turns(row[source.column], source.path, source.column)
        yield Document(f"{source.split}:{number}", text, turns)
        number += 1
