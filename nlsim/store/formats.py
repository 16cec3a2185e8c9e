"""Bytes of stored objects: arrays as safetensors, tables as Parquet. Equal content gives equal bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nlsim.errors import DataError
from nlsim.foreign import json_of
from nlsim.store.objects import BufferReader

if TYPE_CHECKING:
    import pyarrow

BLOCK = 1 << 18
"""Bytes that one block digest covers: what a ranged read must fetch to be able to check any byte of it."""
DIGEST = 16
"""Hex digits of a block digest."""
ROW_GROUP = 1 << 16
"""Rows per row group of a table."""

# safetensors' names of the types that NumPy has too.
_CODES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
DTYPES = {name: np.dtype(code) for name, code in _CODES.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Placed(NamedTuple):
    """Where one array lies in its object."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    """Offset of its first byte from the start of the object."""

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, the array's elements that share their first index."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))

    @property
    def size(self) -> int:
        """Bytes of the whole array."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


def array_buffers(arrays: Mapping[str, np.ndarray]) -> list[memoryview]:
    """The arrays as the buffers of a safetensors file, without copying those that are contiguous and little-endian.

    As safetensors orders them: by descending element size, then by name, the header padded to 8 bytes, so that every
    array is aligned. Raises TypeError for a type that NumPy and safetensors do not share.
    """
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in NAMES:
            raise TypeError(f"array {name}: {array.dtype} cannot be stored")
    ordered = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    buffers: list[memoryview] = []
    end = 0
    for name in ordered:
        array = arrays[name]
        flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
        header[name] = {
            "dtype": NAMES[flat.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + flat.nbytes],
        }
        buffers.append(flat.view(np.uint8).data)
        end += flat.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [memoryview(len(text).to_bytes(8, "little") + text), *buffers]


def header_size(beginning: bytes) -> int:
    """Bytes before the first array, from the first 8 bytes of a safetensors object."""
    return 8 + int.from_bytes(beginning[:8], "little")


def parse_header(header: bytes, size: int) -> dict[str, Placed]:
    """Where the arrays lie in an object of `size` bytes. Raises ValueError unless the safetensors header is sound."""
    placed = {}
    entries = json_of(header[8:])
    if not isinstance(entries, dict):
        raise ValueError("the header names no arrays")
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"array {name} has no usable entry") from error
        if not all(isinstance(number, int) and number >= 0 for number in (*shape, begin, end)):
            raise ValueError(f"array {name} has no usable entry")
        array = Placed(dtype, shape, len(header) + begin)
        if end - begin != dtype.itemsize * math.prod(shape) or len(header) + end > size:
            raise ValueError(f"array {name} does not fit its object")
        placed[name] = array
    return placed


def table_bytes(table: pyarrow.Table) -> bytes:
    """The table as a Parquet file. How it was chunked and what pandas noted in its schema make no difference."""
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    plain = table.replace_schema_metadata(None).combine_chunks()
    parquet.write_table(plain, sink, compression="zstd", row_group_size=ROW_GROUP, write_statistics=True)
    return sink.getvalue().to_pybytes()


def parse_table(data: bytes, name: str) -> pyarrow.Table:
    """The table in a Parquet file. Raises DataError naming it when it is not one."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_table(pyarrow.BufferReader(data))
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is not a Parquet file ({error})", "run `nlsim verify --repair`") from error


class Digests(NamedTuple):
    """What a reader checks bytes against."""

    size: int
    sha256: str
    blocks: str
    """`DIGEST` hex digits of the SHA-256 of each `BLOCK` bytes, one after another."""


def digests(buffers: Sequence[memoryview], blocks: bool = False) -> Digests:
    """Size, SHA-256 and, if wanted, block digests of buffers that follow each other."""
    whole, parts, size = hashlib.sha256(), [], 0
    reader = BufferReader(buffers)
    while piece := _read_full(reader, BLOCK):
        whole.update(piece)
        size += len(piece)
        if blocks:
            parts.append(block_digest(piece))
    return Digests(size, whole.hexdigest(), "".join(parts))


def block_digest(block: bytes | memoryview) -> str:
    """The digest of one block."""
    return hashlib.sha256(block).hexdigest()[:DIGEST]


def _read_full(reader: BufferReader, size: int) -> bytes:
    target = bytearray(size)
    done = 0
    while done < size and (count := reader.readinto(memoryview(target)[done:])):
        done += count
    return bytes(target[:done])
