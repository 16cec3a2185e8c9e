"""Objects as files below a directory."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nlsim.errors import NlsimError, TransientError, UsageError
from nlsim.store.cache import file_sha256
from nlsim.store.objects import (
    DamagedObjectError,
    Data,
    MissingObjectError,
    ObjectInfo,
    buffers_of,
    checked_key,
    checked_prefix,
)

TEMPORARY = ".tmp"
"""Temporary files are `.<name>.<random>.tmp` beside what they become."""


class DirectoryObjects:
    """Objects as files below `root`. Works on any file system with hard links and atomic rename, NFS included.

    A write goes to a temporary file in the target's own folder, is flushed to the disk, takes its name in one step
    (rename; for `put_if_absent` a hard link, which fails where the name is taken) and then has the folder flushed.
    """

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links, absolute() keeps ".."
        self.url = str(self.root)

    def put(self, key: str, data: Data) -> None:
        target = self._path(key)
        with _clear_errors(target):
            temporary = _write_temporary(target, data)
            try:
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            _flush_folder(target.parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with _clear_errors(target):
            temporary = _write_temporary(target, data)
            try:
                os.link(temporary, target)
            except OSError as error:
                if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise UsageError(
                        f"the file system of {self.root} has no hard links, which committing results safely needs",
                        "put the run on a local disk, on NFS or in S3",
                    ) from error
                # NFS may say "exists" when it was this very link that succeeded and only its answer was lost.
                if error.errno != errno.EEXIST:
                    raise
            finally:
                temporary.unlink(missing_ok=True)
            _flush_folder(target.parent)  # also for another's link: nobody may rely on it before it is durable
            return target.read_bytes() == data

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        with _clear_errors(path), path.open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def info(self, key: str) -> ObjectInfo | None:
        path = self._path(key)
        try:
            with _clear_errors(path):
                facts = path.stat()
        except MissingObjectError:
            return None
        return ObjectInfo(key, facts.st_size, facts.st_mtime) if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder = checked_prefix(prefix).rpartition("/")[0]
        for info in _walk(self.root / folder, f"{folder}/" if folder else "", prefix):
            if not _is_temporary(info.key):
                yield info

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            with _clear_errors(path):
                path.unlink(missing_ok=True)
                with suppress(OSError):  # until a folder that is not empty
                    while (path := path.parent) != self.root:
                        path.rmdir()

    def local(self, key: str, sha256: str = "") -> Path:
        path = self._path(key)
        if not path.is_file():
            raise MissingObjectError(f"{path} does not exist")
        with _clear_errors(path):
            if sha256 and file_sha256(path) != sha256:
                raise DamagedObjectError(str(path), "its SHA-256 is not the one that was committed")
        return path

    def now(self) -> float:
        """By the file system's clock, which on NFS is the server's."""
        probe = self._path(f"now.{secrets.token_hex(8)}")
        with _clear_errors(probe):
            temporary = _write_temporary(probe, b"")
            try:
                return temporary.stat().st_mtime
            finally:
                temporary.unlink(missing_ok=True)

    def unfinished(self, before: float, remove: bool = False) -> Iterator[ObjectInfo]:
        for info in _walk(self.root, "", ""):
            if _is_temporary(info.key) and info.modified < before:
                if remove:
                    self.delete([info.key])
                yield info

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)


def _is_temporary(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(TEMPORARY)


def _write_temporary(target: Path, data: Data) -> Path:
    """A new file beside `target` with the data, flushed to the disk; none is left when writing fails."""
    temporary = target.parent / f".{target.name}.{secrets.token_hex(6)}{TEMPORARY}"
    for patience in range(9, -1, -1):
        _make_folder(target.parent)
        try:
            file = temporary.open("xb")
            break
        except FileNotFoundError:  # a deletion has just removed the empty folder
            if not patience:
                raise
    try:
        with file:
            if isinstance(data, Path):
                with data.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            else:
                for buffer in buffers_of(data):
                    file.write(buffer)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each of them flushed into the folder that holds it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    """Make names in the folder survive a power failure. A file system that cannot do that is taken as it is."""
    with suppress(PermissionError, FileNotFoundError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):
                raise
        finally:
            os.close(handle)


def _walk(folder: Path, base: str, prefix: str) -> Iterator[ObjectInfo]:
    """Files below `folder` (its key with a slash is `base`), in the order of their keys. What vanishes is left out."""
    if base and not folder.is_dir():
        return
    try:
        with _clear_errors(folder), os.scandir(folder) as entries:
            # A folder sorts as its keys do: by its name with the slash.
            found = sorted((entry.name + "/" * entry.is_dir(), entry) for entry in entries)
    except MissingObjectError:
        return
    for name, entry in found:
        key = base + name
        if name.endswith("/") and (key.startswith(prefix) or prefix.startswith(key)):
            yield from _walk(folder / entry.name, key, prefix)
        elif not name.endswith("/") and key.startswith(prefix):
            with suppress(FileNotFoundError):
                facts = entry.stat()
                yield ObjectInfo(key, facts.st_size, facts.st_mtime)


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise clear_error(error, path) from error


def clear_error(error: OSError, path: Path) -> NlsimError:
    """What an operating-system error at `path` means to the user."""
    match error.errno:
        case errno.ENOENT:
            return MissingObjectError(f"{path} does not exist")
        case errno.ENOSPC | errno.EDQUOT:
            return TransientError(f"no space left for {path}", "free some and run the same command again")
        case errno.EFBIG:
            return UsageError(f"{path} is larger than allowed here", "raise the limit (ulimit -f) or use another disk")
        case errno.EROFS:
            return UsageError(f"{path} is on a read-only file system", "choose a place that can be written to")
        case errno.EACCES | errno.EPERM:
            return UsageError(f"permission denied: {path}", "change its owner or mode, or choose another place")
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST:
            return UsageError(
                f"{path}: a file is in the place of a folder, or a folder of a file", "choose another place"
            )
        case errno.ENAMETOOLONG | errno.ELOOP | errno.EINVAL:
            return UsageError(f"{path} cannot be a file's name here ({error.strerror})", "choose another place")
        case _:
            return TransientError(f"{path}: {error.strerror or error}", "check the disk and run the same command again")
