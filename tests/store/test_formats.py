"""Formats and records: round trips, other readers, hostile bytes."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from safetensors.numpy import load

from nlsim.errors import DataError
from nlsim.store import formats
from nlsim.store.objects import DamagedObjectError
from nlsim.store.records import CommitRecord, ObjectRecord, commit_key, commit_prefixes, shard_of

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name != "__metadata__"),
    st.sampled_from(list(formats.NAMES)).flatmap(
        lambda dtype: st_numpy.arrays(dtype, st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    ),
    max_size=4,
)


def joined(arrays: dict[str, np.ndarray]) -> bytes:
    return b"".join(formats.array_buffers(arrays))


@given(ARRAYS)
def test_the_safetensors_library_reads_what_we_write(arrays: dict[str, np.ndarray]) -> None:
    found = load(joined(arrays))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@given(ARRAYS)
def test_the_header_says_where_every_array_is(arrays: dict[str, np.ndarray]) -> None:
    data = joined(arrays)
    placed = formats.parse_header(data[: formats.header_size(data)], len(data))
    for name, array in arrays.items():
        assert data[placed[name].start : placed[name].start + placed[name].size] == array.tobytes()
        assert placed[name].start % array.dtype.itemsize == 0


def test_layout_in_memory_makes_no_difference() -> None:
    array = np.arange(24, dtype=np.int32).reshape(4, 6)
    plain = joined({"a": array, "b": array[:2]})
    assert joined({"b": array[:2].copy(), "a": np.asfortranarray(array)}) == plain
    assert joined({"a": array.astype(">i4"), "b": array[:2]}) == plain
    assert load(joined({"x": array[::2, ::-1]}))["x"].tolist() == array[::2, ::-1].tolist()


@pytest.mark.parametrize("dtype", [object, "U3", np.complex64, "M8[s]"])
def test_what_cannot_be_stored_is_refused(dtype: object) -> None:
    with pytest.raises(TypeError, match=r"array a: .* cannot be stored"):
        formats.array_buffers({"a": np.zeros(2, dtype)})  # type: ignore[call-overload]


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_header_leads_beyond_the_object(text: bytes, size: int) -> None:
    header = len(text).to_bytes(8, "little") + text
    try:
        placed = formats.parse_header(header, size)
    except (ValueError, AttributeError):
        return
    assert all(array.start + array.size <= size for array in placed.values())


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [200], "data_offsets": [0, 800]},
        {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [0.5], "data_offsets": [0, 2]},
        {"dtype": "F32"},
        [],
    ],
)
def test_unsound_headers(entry: object) -> None:
    text = json.dumps({"a": entry}).encode()
    with pytest.raises(ValueError, match="array a"):
        formats.parse_header(len(text).to_bytes(8, "little") + text, len(text) + 8 + 8)


def test_tables_are_equal_bytes_for_equal_rows() -> None:
    table = pa.table({"a": list(range(1000)), "b": [str(n) for n in range(1000)]})
    chunked = pa.concat_tables([table.slice(0, 300), table.slice(300)]).replace_schema_metadata({"pandas": "1.0"})
    assert formats.table_bytes(chunked) == formats.table_bytes(table)
    assert formats.parse_table(formats.table_bytes(table), "x").equals(table)
    empty = table.slice(0, 0)
    assert formats.parse_table(formats.table_bytes(empty), "x").schema == table.schema


@given(st.binary(max_size=100))
def test_bytes_that_are_no_table(data: bytes) -> None:
    with pytest.raises(DataError, match="cache/x is not a Parquet file"):
        formats.parse_table(data, "cache/x")


@given(st.lists(st.binary(max_size=3 * formats.BLOCK // 2), max_size=3))
@settings(max_examples=20)
def test_digests_do_not_depend_on_the_cuts(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    found = formats.digests([memoryview(part) for part in parts], blocks=True)
    assert found == formats.digests([memoryview(whole)], blocks=True)
    assert found.size == len(whole)
    blocks = [whole[at : at + formats.BLOCK] for at in range(0, len(whole), formats.BLOCK)]
    assert found.blocks == "".join(map(formats.block_digest, blocks))


@pytest.mark.parametrize("shard", [0, 7, 999, 1000, 999_999, 1_000_000])
def test_commit_keys(shard: int) -> None:
    assert shard_of(commit_key(shard)) == shard


@pytest.mark.parametrize("shards", [1, 1000, 1001, 3500])
def test_a_folder_holds_a_thousand_records(shards: int) -> None:
    """Every record is in one part of the listing, and no folder or part has more than one page of S3 holds."""
    keys = [commit_key(shard) for shard in range(shards)]
    parts = Counter(tuple(prefix for prefix in commit_prefixes(shards) if key.startswith(prefix)) for key in keys)
    assert {len(part) for part in parts} == {1}
    assert max(parts.values()) <= 1000
    assert max(Counter(key.rpartition("/")[0] for key in keys).values()) <= 1000


@given(st.text(max_size=20))
def test_other_keys_are_no_commit_records(text: str) -> None:
    for key in (text, f"_commit/{text}", f"_commit/{text}.json"):
        shard = shard_of(key)
        assert shard is None or commit_key(shard) == key


RECORD = CommitRecord(
    stage="cache",
    fingerprint="0123",
    shard=3,
    shards=4,
    objects={"x.json": ObjectRecord(key="data/000003-ab/x.json", size=2, sha256="0" * 64)},
    counts={"rows": 2},
    code_version="1",
    engine={"device": "cpu"},
    started=1.5,
    seconds=0.25,
    attempt="ab",
)


def test_a_record_comes_back_as_it_was() -> None:
    assert CommitRecord.from_bytes(RECORD.to_bytes(), "x") == RECORD
    assert CommitRecord.from_bytes(RECORD.to_bytes(), "x").to_bytes() == RECORD.to_bytes()


@given(st.integers(0, len(RECORD.to_bytes()) - 1), st.integers(1, 255), st.booleans())
def test_no_changed_byte_in_a_record_goes_unnoticed(at: int, change: int, cut: bool) -> None:
    data = RECORD.to_bytes()
    damaged = data[:at] if cut else data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
    with pytest.raises(DamagedObjectError, match=r"_commit/000003\.json is damaged"):
        CommitRecord.from_bytes(damaged, "_commit/000003.json")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    )
)
def test_no_json_but_a_record_is_taken_for_one(value: object) -> None:
    with pytest.raises(DamagedObjectError, match="is damaged"):
        CommitRecord.from_bytes(json.dumps(value).encode(), "x")
