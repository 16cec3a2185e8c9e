"""Reading stored arrays: whole, mapped into memory, or some rows by one ranged read, every byte checked."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import numpy as np

from nlsim.errors import DataError
from nlsim.store import formats
from nlsim.store.formats import BLOCK, DIGEST, Placed
from nlsim.store.objects import REREADS, DamagedObjectError, Objects
from nlsim.store.records import ObjectRecord


class ArrayObject:
    """One safetensors object of which only what is asked for is read, in whole blocks whose digests are checked.

    Where there is a local file, the object itself or a copy, it is mapped into memory and each block is checked once.
    """

    def __init__(self, objects: Objects, key: str, record: ObjectRecord, path: Path | None = None) -> None:
        self._objects = objects
        self._key = key
        self._record = record
        self._name = f"{objects.url}/{key}"
        self._lock = threading.Lock()
        self._mapped: memoryview | None = None
        if len(record.blocks) != DIGEST * -(-record.size // BLOCK):
            raise DataError(f"{self._name} was not written as arrays")
        if path is not None:
            if path.stat().st_size != record.size:
                raise DamagedObjectError(self._name, f"{path.stat().st_size} bytes instead of {record.size}")
            with path.open("rb") as file:
                self._mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            self._unchecked = set(range(-(-record.size // BLOCK)))
        try:
            beginning = self.read(0, min(BLOCK, record.size))
            size = formats.header_size(bytes(beginning[:8]))
            header = beginning[:size] if size <= len(beginning) else self.read(0, min(size, record.size))
            self.placed = formats.parse_header(bytes(header), record.size)
        except ValueError as error:
            raise DamagedObjectError(self._name, str(error)) from error

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows [start, stop) of one array, by one read; an index beyond the end means the end. Read-only.

        Raises DataError when there is no such array, DamagedObjectError when the bytes are not those committed.
        """
        array = self.placed.get(name)
        if array is None:
            raise DataError(f"{self._name} has no array {name}", f"it has {', '.join(self.placed)}")
        if not array.shape:
            return self._view(array, array.shape, 0)
        first, last, _ = slice(start, stop).indices(array.shape[0])
        return self._view(array, (max(last - first, 0), *array.shape[1:]), first * array.row_bytes)

    def whole(self) -> dict[str, np.ndarray]:
        """All arrays, in the order of their names. Read-only."""
        return {name: self.rows(name) for name in sorted(self.placed)}

    def _view(self, array: Placed, shape: tuple[int, ...], offset: int) -> np.ndarray:
        part = Placed(array.dtype, shape, array.start + offset)
        found: np.ndarray = np.ndarray(shape, array.dtype, self.read(part.start, part.size))
        found.flags.writeable = False
        return found

    @property
    def is_mapped(self) -> bool:
        """Whether rows are read from a local file."""
        return self._mapped is not None

    def read(self, start: int, length: int) -> memoryview:
        """Bytes [start, start + length), which must lie within the object."""
        if not length:
            return memoryview(b"")
        first, last = start // BLOCK, (start + length - 1) // BLOCK
        if self._mapped is not None:
            self._check_mapped(self._mapped, first, last)
            return self._mapped[start : start + length]
        begin, end = first * BLOCK, min((last + 1) * BLOCK, self._record.size)
        for _ in range(REREADS):
            fetched = memoryview(self._objects.get(self._key, begin, end - begin))
            if len(fetched) == end - begin and not self._wrong(fetched, first):
                return fetched[start - begin : start - begin + length]
        raise DamagedObjectError(self._name, f"bytes {begin} to {end} are not those that were committed")

    def _check_mapped(self, mapped: memoryview, first: int, last: int) -> None:
        with self._lock:
            for block in self._unchecked.intersection(range(first, last + 1)):
                begin = block * BLOCK
                if self._wrong(mapped[begin : begin + BLOCK], block):
                    raise DamagedObjectError(self._name, f"block {block} is not the one that was committed")
                self._unchecked.discard(block)

    def _wrong(self, data: memoryview, first: int) -> bool:
        """Whether any block of `data`, which begins with block `first`, has another digest than the record says."""
        expected = self._record.blocks
        for begin in range(0, len(data), BLOCK):
            at = (first + begin // BLOCK) * DIGEST
            if formats.block_digest(data[begin : begin + BLOCK]) != expected[at : at + DIGEST]:
                return True
        return False
