"""Bytes under keys below one URL: what a directory and an S3 bucket have in common, and all that is asked of them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from nlsim.errors import DataError, UsageError
from nlsim.foreign import local_path

T = TypeVar("T")

Data = bytes | Path | Sequence[memoryview]
"""What can be stored: bytes, a file's bytes, or buffers that follow each other (nothing is copied to join them)."""

Moved = Callable[[int], None]
"""Called with a number of bytes each time a large transfer got on by that much, possibly from several threads."""


class ObjectInfo(NamedTuple):
    """One object, as a listing shows it."""

    key: str
    size: int
    """In bytes."""
    modified: float
    """When it was written: seconds since the epoch by the store's clock."""


class MissingObjectError(DataError):
    """There is no object under the key."""


class DamagedObjectError(DataError):
    """An object is not what its commit record says."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"{name} is damaged ({what})", "run `nlsim verify --repair`")


class Objects(Protocol):
    """Bytes under keys ("a/b.json"), below one URL. Safe to use from several threads; can be pickled.

    Every method raises UsageError when the store refuses for good (access denied, no such bucket, read-only directory)
    and TransientError when it may work later (unreachable, overloaded, full), after its own retries.
    """

    url: str
    is_local: bool
    """Whether the objects are files of this machine, so that `local` costs nothing and reading again cannot help."""

    def put(self, key: str, data: Data) -> None:
        """Store `data`, replacing what was there. Atomic and durable: a reader sees all of it or none."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Store `data` unless there is something under the key already; of several writers exactly one succeeds.

        True: the key now holds exactly `data`, and holds it for good. That includes finding these very bytes there,
        which is what a writer finds whose first try succeeded but whose answer got lost. False: it holds something
        else. To tell two writers apart, let each put something of its own into `data`.
        """

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length) of an object, fewer where it ends before. Raises MissingObjectError."""

    def info(self, key: str) -> ObjectInfo | None:
        """The object's size and time, None when there is none."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose keys start with `prefix`, sorted by key, page by page. Unfinished writes are not shown."""

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""

    def local(self, key: str, sha256: str = "") -> Path:
        """A local file with the object's bytes: the object itself or a cached copy. Not to be written to.

        With `sha256` (hex) the bytes are checked, once per process, and fetched again where a copy differs; raises
        DamagedObjectError when the object itself does.
        """

    def now(self) -> float:
        """The store's clock, the one behind `ObjectInfo.modified`: seconds since the epoch."""

    def unfinished(self, before: float, remove: bool = False) -> Iterator[ObjectInfo]:
        """What writes begun before `before` and never finished have left: temporary files, parts of multipart uploads.

        With `remove` they are removed as they are yielded.
        """


REREADS = 3
"""Bytes from a remote store that arrive wrong are asked for this many times: they may be damaged on the way only."""


def insist(read: Callable[[], T], objects: Objects) -> T:
    """`read()`, again where what came from a remote store looks damaged but may only have been so on the way."""
    for _ in range(0 if objects.is_local else REREADS - 1):
        try:
            return read()
        except DamagedObjectError:
            continue
    return read()


def open_objects(url: str | Path, moved: Moved | None = None) -> Objects:
    """Open a directory (path or file://…) or an S3 prefix (s3://bucket/prefix). Nothing is contacted or created yet.

    S3 is configured as the AWS tools are: AWS_ENDPOINT_URL(_S3) for a store that is not Amazon's, AWS_REGION, and the
    usual sources of credentials. Raises UsageError for a URL that is neither.
    """
    text = str(url)
    if "://" not in text:
        from nlsim.store.directory import DirectoryObjects

        if not text:
            raise UsageError("the store URL is empty", "give a directory or s3://bucket/prefix")
        return DirectoryObjects(local_path(text))
    try:
        parts = urlsplit(text)
        host, path, extra = parts.netloc, unquote(parts.path), parts.query or parts.fragment
    except ValueError:
        raise UsageError("the store URL cannot be parsed", "give a directory or s3://bucket/prefix") from None
    if "@" in host:
        raise UsageError(
            "the store URL carries credentials",
            "take them out; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead",
        )
    if parts.scheme == "file" and host in ("", "localhost") and path and not extra:
        from nlsim.store.directory import DirectoryObjects

        return DirectoryObjects(Path(path))
    if parts.scheme == "s3" and not extra:
        from nlsim.store.s3 import S3Objects

        return S3Objects(host, path.strip("/"), moved)
    raise UsageError(f"{text} is not a store URL", "give a directory, file:///path or s3://bucket/prefix")


def checked_key(key: str) -> str:
    """`key` when it names a place below the root: printable parts between single slashes, none of them dots."""
    if not key.isprintable() or any(part in ("", ".", "..") for part in key.split("/")):
        raise DataError(f"{key!r} is not an object key", "keys are relative paths such as tokens/1a2b/rows.json")
    return key


def checked_prefix(prefix: str) -> str:
    """`prefix` when keys below the root can start with it."""
    if prefix:
        checked_key(prefix.rstrip("/") if prefix.endswith("/") else prefix)
    return prefix


def buffers_of(data: bytes | Sequence[memoryview]) -> Sequence[memoryview]:
    """The data as byte buffers; empty ones are left out."""
    return [buffer.cast("B") for buffer in ([memoryview(data)] if isinstance(data, bytes) else data) if buffer.nbytes]


class BufferReader(io.RawIOBase):
    """A seekable file over buffers that follow each other, so that an upload need not join them."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self._buffers = buffers_of(buffers)
        self._size = sum(map(len, self._buffers))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        wanted, begin = memoryview(target).cast("B"), 0
        for buffer in self._buffers:
            inside = self._position - begin
            if 0 <= inside < len(buffer):
                piece = buffer[inside : inside + len(wanted)]
                wanted[: len(piece)] = piece
                self._position += len(piece)
                return len(piece)
            begin += len(buffer)
        return 0
