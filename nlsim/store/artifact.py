"""Artifacts: what one stage made under one fingerprint, shard by shard, and how it is read back. See docs/store.md."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nlsim.errors import DataError, IncompleteError
from nlsim.store.arrays import ArrayObject
from nlsim.store.formats import parse_table
from nlsim.store.objects import DamagedObjectError, MissingObjectError, Objects, insist
from nlsim.store.records import PER_FOLDER, CommitRecord, ObjectRecord, commit_key, commit_prefixes, shard_of
from nlsim.store.writer import ShardWriter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

__all__ = ["Artifact", "CommitRecord", "ObjectRecord", "ShardWriter"]

K = TypeVar("K")
T = TypeVar("T")
U = TypeVar("U")

THREADS = 16
"""Requests to the store at once, where many small ones are made."""
KEPT_RECORDS = 4096
KEPT_ARRAYS = 64
CHUNK = 8 << 20


class Artifact:
    """What one stage made under one fingerprint: `<root>/<stage>/<fingerprint>/`, in `shards` shards.

    The listing of commit records and the records themselves are cached; `refresh` forgets them. Safe to use from
    several threads.
    """

    def __init__(self, objects: Objects, stage: str, fingerprint: str, shards: int) -> None:
        self.objects = objects
        self.stage = stage
        self.fingerprint = fingerprint
        self.shards = shards
        self.root = f"{stage}/{fingerprint}"
        self._committed: set[int] | None = None
        self._records: dict[int, CommitRecord] = {}
        self._arrays: dict[str, ArrayObject] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it lies."""
        return f"{self.objects.url}/{self.root}"

    # What is there

    @property
    def committed(self) -> frozenset[int]:
        """Shards that have been committed, by one listing of the records' keys."""
        if self._committed is None:
            self._committed = self._list_committed()
        return frozenset(self._committed)

    @property
    def complete(self) -> bool:
        """Whether every shard has been committed."""
        return len(self.committed) == self.shards

    def missing(self) -> list[int]:
        """Shards that have not been committed."""
        committed = self.committed
        return [shard for shard in range(self.shards) if shard not in committed]

    def is_committed(self, shard: int) -> bool:
        """Whether one shard has been committed, by one request and no listing."""
        return self.objects.info(f"{self.root}/{commit_key(shard)}") is not None

    def require_complete(self) -> None:
        """Raises IncompleteError, naming how many shards are missing, unless every shard has been committed."""
        if not self.complete:
            self.refresh()
        if missing := self.missing():
            first = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
            raise IncompleteError(
                f"{self.stage} lacks {len(missing)} of {self.shards} shards ({first})", "run it first: `nlsim run`"
            )

    def refresh(self) -> None:
        """Forget what was cached about the store's state."""
        self._committed = None
        with self._lock:
            self._records.clear()
            self._arrays.clear()

    def record(self, shard: int) -> CommitRecord:
        """One shard's commit record, by one request. Raises IncompleteError when there is none."""
        found = self._records.get(shard)
        if found is None:
            if not 0 <= shard < self.shards:
                raise IndexError(f"{self.stage} has no shard {shard}")
            found = self._read_record(shard)
            self._keep(self._records, shard, found, KEPT_RECORDS)
        return found

    @property
    def records(self) -> Mapping[int, CommitRecord]:
        """The records of all committed shards, by shard. For very many shards, `iter_records` keeps memory flat."""
        return {record.shard: record for record in self.iter_records()}

    def iter_records(self) -> Iterator[CommitRecord]:
        """The records of all committed shards in their order, read by several threads a little ahead."""
        return _map_ahead(self.record, sorted(self.committed))

    # Reading: every byte is checked against the commit record

    def arrays(self, shard: int, name: str) -> dict[str, np.ndarray]:
        """The arrays written under `name`, mapped into memory, read-only. A remote object is copied to the cache."""
        return self._array_object(shard, name, whole=True).whole()

    def array(self, shard: int, name: str, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of one array by one ranged read, read-only; the object's header is read once beside it."""
        return self._array_object(shard, name, whole=False).rows(key, start, stop)

    def table(self, shard: int, name: str) -> pyarrow.Table:
        """The table written under `name` in one shard."""
        record = self._object(shard, f"{name}.parquet")
        return parse_table(self._read(record), self._name(record))

    def tables(self, name: str) -> pyarrow.Table:
        """The tables written under `name` in all shards, one after another in the order of the shards.

        Raises IncompleteError unless the artifact is complete.
        """
        import pyarrow

        self.require_complete()
        return pyarrow.concat_tables(_map_ahead(lambda shard: self.table(shard, name), range(self.shards)))

    def json(self, shard: int, name: str) -> Any:
        """The value written under `name` in one shard."""
        return json.loads(self.read(shard, f"{name}.json"))

    def read(self, shard: int, name: str) -> bytes:
        """The bytes written under `name` (with its extension) in one shard."""
        return self._read(self._object(shard, name))

    def path(self, shard: int, name: str) -> Path:
        """A local file with the bytes written under `name` (with its extension). Not to be written to."""
        record = self._object(shard, name)
        try:
            return self.objects.local(f"{self.root}/{record.key}", record.sha256)
        except MissingObjectError as error:
            raise DamagedObjectError(self._name(record), "it is gone") from error

    # Writing and mending

    def begin(self, shard: int) -> ShardWriter:
        """Start an attempt at one shard."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"{self.stage} has no shard {shard}")
        return ShardWriter(self.objects, self.root, self.stage, self.fingerprint, shard, self.shards, self._note)

    def verify(self, repair: bool = False) -> list[str]:
        """Read every object of every committed shard; one line for each that is damaged.

        With `repair` the commit records of damaged shards are withdrawn, so that the next run computes them again;
        the rest of their data is then removed by `nlsim gc`.
        """
        self.refresh()
        lines = []
        for shard, damage in zip(sorted(self.committed), _map_ahead(self._damage, sorted(self.committed)), strict=True):
            lines += damage
            # Looked at once more: meanwhile another may have withdrawn the record and committed the shard anew.
            if damage and repair and self._damage(shard):
                self.withdraw(shard)
        return lines

    def withdraw(self, shard: int) -> None:
        """Remove a shard's commit record: the shard counts as missing again."""
        self.objects.delete([f"{self.root}/{commit_key(shard)}"])
        self.refresh()

    def _note(self, record: CommitRecord) -> None:
        if self._committed is not None:
            self._committed.add(record.shard)
        self._keep(self._records, record.shard, record, KEPT_RECORDS)

    def _keep(self, kept: dict[K, T], key: K, value: T, most: int) -> None:
        """Keep a value for next time; of more than `most` the oldest goes."""
        with self._lock:
            while len(kept) >= most:
                kept.pop(next(iter(kept)))
            kept[key] = value

    def _list_committed(self) -> set[int]:
        """By listing keys only. Of many shards in a bucket each thread lists as many as one page holds."""
        many = self.shards > PER_FOLDER and not self.objects.is_local
        prefixes = commit_prefixes(self.shards) if many else ["_commit/"]
        found: set[int] = set()
        for shards in _map_ahead(self._list_shards, prefixes):
            found.update(shards)
        return found

    def _list_shards(self, prefix: str) -> list[int]:
        keys = (info.key[len(self.root) + 1 :] for info in self.objects.list(f"{self.root}/{prefix}"))
        return [shard for key in keys if (shard := shard_of(key)) is not None and shard < self.shards]

    def _read_record(self, shard: int) -> CommitRecord:
        key = f"{self.root}/{commit_key(shard)}"
        name = f"{self.objects.url}/{key}"
        try:
            record = insist(lambda: CommitRecord.from_bytes(self.objects.get(key), name), self.objects)
        except MissingObjectError:
            raise IncompleteError(f"{self.stage} lacks shard {shard}", "run it first: `nlsim run`") from None
        if (record.stage, record.fingerprint, record.shard) != (self.stage, self.fingerprint, shard):
            raise DamagedObjectError(name, f"it describes shard {record.shard} of {record.stage}/{record.fingerprint}")
        if record.shards != self.shards:
            raise DataError(f"{name} is of {record.shards} shards, not {self.shards}", "run it again with --update")
        return record

    def _object(self, shard: int, name: str) -> ObjectRecord:
        objects = self.record(shard).objects
        if name not in objects:
            raise DataError(
                f"{self.stage} has no {name}", f"shard {shard} has {', '.join(sorted(objects)) or 'nothing'}"
            )
        return objects[name]

    def _name(self, record: ObjectRecord) -> str:
        return f"{self.url}/{record.key}"

    def _array_object(self, shard: int, name: str, whole: bool) -> ArrayObject:
        record = self._object(shard, f"{name}.safetensors")
        opened = self._arrays.get(record.key)
        if opened is None or (whole and not opened.is_mapped):
            key, path = f"{self.root}/{record.key}", None
            try:
                if self.objects.is_local:
                    path = self.objects.local(key)
                elif whole:
                    path = self.objects.local(key, record.sha256)
                opened = ArrayObject(self.objects, key, record, path)
            except MissingObjectError as error:
                raise DamagedObjectError(self._name(record), "it is gone") from error
            self._keep(self._arrays, record.key, opened, KEPT_ARRAYS)
        return opened

    def _read(self, record: ObjectRecord) -> bytes:
        def read() -> bytes:
            data = self.objects.get(f"{self.root}/{record.key}", 0, record.size + 1)
            if len(data) != record.size:
                raise DamagedObjectError(self._name(record), f"{len(data)} bytes instead of {record.size}")
            if hashlib.sha256(data).hexdigest() != record.sha256:
                raise DamagedObjectError(self._name(record), "its SHA-256 is not the one that was committed")
            return data

        try:
            return insist(read, self.objects)
        except MissingObjectError as error:
            raise DamagedObjectError(self._name(record), "it is gone") from error

    def _damage(self, shard: int) -> list[str]:
        """What is wrong with one committed shard, one line per object; nothing is taken from caches."""
        try:
            record = self._read_record(shard)
        except DamagedObjectError as error:
            return [str(error)]
        except IncompleteError:
            return []
        lines = []
        for entry in record.objects.values():
            try:
                self._check(entry)
            except DamagedObjectError as error:
                lines.append(str(error))
        return lines

    def _check(self, record: ObjectRecord) -> None:
        """Read an object piece by piece. Raises DamagedObjectError when it is not what was committed."""
        key = f"{self.root}/{record.key}"

        def check() -> None:
            whole = hashlib.sha256()
            for start in range(0, record.size, CHUNK):
                whole.update(self.objects.get(key, start, min(CHUNK, record.size - start)))
            info = self.objects.info(key)
            if info is None:
                raise DamagedObjectError(self._name(record), "it is gone")
            if info.size != record.size:
                raise DamagedObjectError(self._name(record), f"{info.size} bytes instead of {record.size}")
            if whole.hexdigest() != record.sha256:
                raise DamagedObjectError(self._name(record), "its SHA-256 is not the one that was committed")

        try:
            insist(check, self.objects)
        except MissingObjectError as error:
            raise DamagedObjectError(self._name(record), "it is gone") from error


def _map_ahead(work: Callable[[U], T], items: Iterable[U]) -> Iterator[T]:
    """`map` by several threads, in order, at most a few items ahead of the consumer."""
    with ThreadPoolExecutor(THREADS) as pool:
        ahead: deque[Future[T]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) >= 2 * THREADS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
