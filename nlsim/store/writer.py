"""Writing one shard: data objects under keys of this attempt alone, then one commit record that makes them count."""

from __future__ import annotations

import builtins
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlsim import __version__
from nlsim.base import canonical_json
from nlsim.errors import DataError, TransientError
from nlsim.store import formats
from nlsim.store.objects import Data, MissingObjectError, Objects, insist
from nlsim.store.records import NAME, CommitRecord, ObjectRecord, commit_key

if TYPE_CHECKING:
    import numpy as np
    import pyarrow


class ShardWriter:
    """One attempt at one shard. Nothing it writes can be seen before `commit`, and all of it after."""

    def __init__(
        self,
        objects: Objects,
        root: str,
        stage: str,
        fingerprint: str,
        shard: int,
        shards: int,
        committed: Callable[[CommitRecord], None],
    ) -> None:
        self._objects = objects
        self._root = root
        self._identity = {"stage": stage, "fingerprint": fingerprint, "shard": shard, "shards": shards}
        self._committed = committed
        self._commit_key = f"{root}/{commit_key(shard)}"
        self.attempt = secrets.token_hex(8)
        self._folder = f"data/{shard:06d}-{self.attempt}"
        self._records: dict[str, ObjectRecord] = {}
        self._kept: set[str] = set()
        self._counts: dict[str, int] = {}
        self._engine: dict[str, str] = {}
        self._started = time.time()
        self._clock = time.monotonic()
        self._closed = False

    def arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays as `<name>.safetensors`. Raises TypeError for objects, strings and the like."""
        buffers = formats.array_buffers(arrays)
        self._put(f"{name}.safetensors", buffers, formats.digests(buffers, blocks=True))

    def table(self, name: str, table: pyarrow.Table) -> None:
        """Write a table as `<name>.parquet`."""
        self.bytes(f"{name}.parquet", formats.table_bytes(table))

    def json(self, name: str, value: Any) -> None:
        """Write a value as `<name>.json`. Raises ValueError for NaN and infinities, which JSON does not have."""
        self.bytes(f"{name}.json", canonical_json(value))

    def bytes(self, name: str, data: bytes | Path) -> None:
        """Write bytes, or a file's bytes, as `name` (with its extension)."""
        if isinstance(data, Path):
            with data.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            facts = formats.Digests(data.stat().st_size, sha256, "")
        else:
            facts = formats.digests([memoryview(data)])
        self._put(name, data, facts)

    def count(self, **counts: int) -> None:
        """Add to the counts that the commit record will state."""
        for name, number in counts.items():
            self._counts[name] = self._counts.get(name, 0) + int(number)

    def engine(self, **facts: str) -> None:
        """Note facts about what computes the shard."""
        self._engine.update(facts)

    def keep(self, name: str, data: builtins.bytes) -> None:
        """Keep bytes from which a later attempt at this shard can carry on (see `kept`), replacing what was kept under
        the name. They are no part of the output; a commit removes them, and so does `nlsim gc` in time."""
        self._check_open()
        self._kept.add(name)
        self._objects.put(self._kept_key(name), data)

    def kept(self, name: str) -> builtins.bytes | None:
        """What an earlier attempt at this shard kept under `name`; None for nothing."""
        self._kept.add(name)
        try:
            return self._objects.get(self._kept_key(name))
        except MissingObjectError:
            return None

    def commit(self) -> CommitRecord:
        """Make the shard count, and return its record: this attempt's, or the one that another attempt committed first.

        The loser of a race discards its own data. Raises DataError when the record that is there describes another
        shard, TransientError when an object of this attempt has gone, or when the store's failing leaves it open
        whether the record was written; then the data stay, and `nlsim gc` removes them if they do not count.
        """
        self._check_open()
        for record in self._records.values():
            info = self._objects.info(f"{self._root}/{record.key}")
            if info is None or info.size != record.size:
                raise TransientError(
                    f"{self._objects.url}/{self._root}/{record.key} is gone or cut off, written by this attempt",
                    "run the same command again; do not run `nlsim gc` with a grace period shorter than a shard takes",
                )
        mine = CommitRecord(
            **self._identity,
            objects=self._records,
            counts=self._counts,
            code_version=__version__,
            engine=self._engine,
            started=round(self._started, 3),
            seconds=round(time.monotonic() - self._clock, 3),
            attempt=self.attempt,
        )
        self._closed = True  # from here on the record may be there whatever happens: the data must stay
        if self._objects.put_if_absent(self._commit_key, mine.to_bytes()):
            self._committed(mine)
            if self._kept:
                self._objects.delete(self._kept_key(name) for name in sorted(self._kept))
            return mine
        try:
            name = f"{self._objects.url}/{self._commit_key}"
            theirs = insist(lambda: CommitRecord.from_bytes(self._objects.get(self._commit_key), name), self._objects)
        except MissingObjectError as error:
            raise TransientError(
                f"{self._objects.url}/{self._commit_key} was withdrawn while this shard was being committed",
                "run the same command again",
            ) from error
        if not theirs.describes(mine):
            raise DataError(
                f"{self._objects.url}/{self._commit_key} describes shard {theirs.shard} of {theirs.shards} of "
                f"{theirs.stage}/{theirs.fingerprint}, not this shard",
                "the store was altered by something else; run `nlsim verify --repair`",
            )
        self._remove()
        self._committed(theirs)
        return theirs

    def discard(self) -> None:
        """Remove what was written. Does nothing once `commit` has tried to write the record, for then it may count."""
        if not self._closed:
            self._closed = True
            self._remove()

    def _put(self, name: str, data: Data, facts: formats.Digests) -> None:
        self._check_open()
        if not re.fullmatch(NAME, name) or name in self._records:
            raise ValueError(f"{name!r} is not a new name of an object")
        record = ObjectRecord(key=f"{self._folder}/{name}", size=facts.size, sha256=facts.sha256, blocks=facts.blocks)
        self._records[name] = record  # before the write, so that one that fails half-way is discarded too
        self._objects.put(f"{self._root}/{record.key}", data)

    def _kept_key(self, name: str) -> str:
        return f"{self._root}/data/{self._identity['shard']:06d}-kept/{name}"

    def _remove(self) -> None:
        self._objects.delete(f"{self._root}/{record.key}" for record in self._records.values())

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("this attempt has been committed or discarded")
