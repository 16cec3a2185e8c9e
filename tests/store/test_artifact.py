"""Artifacts: written, committed, read back, checked, repaired; what a second committer finds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store.reopened import again, keys

from nlsim.errors import DataError, IncompleteError, TransientError
from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.formats import BLOCK
from nlsim.store.objects import DamagedObjectError, open_objects
from nlsim.store.records import CommitRecord

Write = Callable[[ShardWriter], None]


def committed(artifact: Artifact, write: Write, shard: int = 0) -> CommitRecord:
    writer = artifact.begin(shard)
    write(writer)
    return writer.commit()


def test_all_kinds_come_back_as_they_were_written(artifact: Artifact, write: Write) -> None:
    expected = np.random.default_rng(7).integers(0, 9000, (500, 8)).astype(np.uint16)
    record = committed(artifact, write)
    assert record.counts == {"rows": 500}
    reader = again(artifact)
    arrays = reader.arrays(0, "codes")
    assert list(arrays) == ["index", "one"]
    np.testing.assert_array_equal(arrays["index"], expected)
    assert arrays["index"].dtype == np.uint16
    assert not arrays["index"].flags.writeable
    np.testing.assert_array_equal(reader.array(0, "codes", "index", 100, 120), expected[100:120])
    np.testing.assert_array_equal(reader.array(0, "codes", "index", 490), expected[490:])
    assert reader.array(0, "codes", "index", 7, 7).shape == (0, 8)
    assert reader.table(0, "stats").to_pydict() == {"latent": [1, 2, 3]}
    assert reader.json(0, "facts") == {"b": [1, "ä"]}
    assert reader.path(0, "raw.bin").read_bytes() == reader.read(0, "raw.bin") == b"hello"
    assert reader.verify() == []


def test_nothing_is_visible_before_the_commit(artifact: Artifact, write: Write) -> None:
    writer = artifact.begin(1)
    write(writer)
    reader = again(artifact)
    assert reader.missing() == [0, 1, 2]
    assert not reader.is_committed(1)
    with pytest.raises(IncompleteError, match="cache lacks shard 1"):
        reader.json(1, "facts")
    writer.commit()
    assert artifact.missing() == [0, 2]
    assert reader.missing() == [0, 1, 2], "the listing is cached"
    reader.refresh()
    assert reader.missing() == [0, 2]
    assert reader.is_committed(1)
    assert list(reader.records) == [1]
    with pytest.raises(IncompleteError, match=r"cache lacks 2 of 3 shards \(0, 2\)"):
        reader.require_complete()


def test_completeness_is_looked_up_again_before_it_is_denied(artifact: Artifact, write: Write) -> None:
    early = again(artifact)
    assert not early.complete
    for shard in range(3):
        committed(artifact, write, shard)
    early.require_complete()
    assert [record.shard for record in early.iter_records()] == [0, 1, 2]
    assert early.tables("stats").to_pydict() == {"latent": [1, 2, 3] * 3}


def test_a_discarded_attempt_leaves_nothing(artifact: Artifact, write: Write) -> None:
    writer = artifact.begin(0)
    write(writer)
    writer.discard()
    writer.discard()
    assert keys(artifact) == []
    with pytest.raises(ValueError, match="committed or discarded"):
        writer.commit()


def test_the_second_committer_discards_its_data_and_returns_the_first_record(artifact: Artifact, write: Write) -> None:
    first, second = artifact.begin(0), again(artifact).begin(0)
    write(first)
    write(second)
    record = first.commit()
    assert second.commit() == record
    assert record.attempt == first.attempt
    second.discard()
    assert sorted(keys(artifact)) == sorted(["_commit/000000.json", *(o.key for o in record.objects.values())])
    assert again(artifact).verify() == []


def test_discarding_after_a_commit_removes_nothing(artifact: Artifact, write: Write) -> None:
    writer = artifact.begin(0)
    write(writer)
    writer.commit()
    writer.discard()
    assert again(artifact).verify() == []


@pytest.mark.parametrize(
    "change", [{"shard": 1}, {"shards": 4}, {"stage": "index"}, {"fingerprint": "fedcba9876543210"}], ids=str
)
def test_a_record_of_something_else_in_the_shards_place(
    artifact: Artifact, write: Write, change: dict[str, str]
) -> None:
    writer = artifact.begin(0)
    write(writer)
    other = committed(artifact, write).model_copy(update=change)
    artifact.objects.put(f"{artifact.root}/_commit/000000.json", other.to_bytes())
    with pytest.raises(DataError, match=r"_commit/000000\.json describes"):
        writer.commit()
    with pytest.raises(DataError, match=r"_commit/000000\.json (is damaged|is of 4 shards)"):
        again(artifact).json(0, "facts")


def test_a_commit_whose_outcome_is_unknown_keeps_the_data(
    artifact: Artifact, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = artifact.begin(0)
    write(writer)
    put = artifact.objects.put_if_absent

    def lose(key: str, data: bytes) -> bool:
        put(key, data)
        raise TransientError("the answer was lost")

    monkeypatch.setattr(artifact.objects, "put_if_absent", lose)
    with pytest.raises(TransientError):
        writer.commit()
    writer.discard()
    monkeypatch.undo()
    assert Artifact(artifact.objects, artifact.stage, artifact.fingerprint, 3).verify() == []
    assert artifact.is_committed(0)


def test_data_that_vanished_or_was_cut_before_the_commit_is_not_committed(artifact: Artifact, write: Write) -> None:
    for damage in (lambda key: artifact.objects.delete([key]), lambda key: artifact.objects.put(key, b"hell")):
        writer = artifact.begin(0)
        write(writer)
        damage(f"{artifact.root}/data/000000-{writer.attempt}/raw.bin")
        with pytest.raises(TransientError, match=r"raw\.bin is gone or cut off"):
            writer.commit()
        writer.discard()
    assert keys(artifact) == []


NAMES = ["codes.safetensors", "stats.parquet", "facts.json", "raw.bin"]


def read_all(artifact: Artifact, name: str) -> list[Callable[[], object]]:
    """Every way to read an object."""
    ways: dict[str, list[Callable[[], object]]] = {
        "codes.safetensors": [
            lambda: artifact.arrays(0, "codes"),
            lambda: artifact.array(0, "codes", "index", 0, 500),
        ],
        "stats.parquet": [lambda: artifact.table(0, "stats")],
        "facts.json": [lambda: artifact.json(0, "facts")],
        "raw.bin": [lambda: artifact.path(0, "raw.bin")],
    }
    return [*ways[name], lambda: artifact.read(0, name)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["altered", "truncated", "longer", "removed", "empty"])
def test_a_damaged_object_is_never_read_and_is_repaired(artifact: Artifact, write: Write, name: str, kind: str) -> None:
    record = committed(artifact, write)
    key = f"{artifact.root}/{record.objects[name].key}"
    data = artifact.objects.get(key)
    changed = {
        "altered": data[:-1] + bytes([data[-1] ^ 1]),
        "truncated": data[:-1],
        "longer": data + b"x",
        "empty": b"",
    }
    if kind == "removed":
        artifact.objects.delete([key])
    else:
        artifact.objects.put(key, changed[kind])
    for way in range(len(read_all(artifact, name))):
        if kind == "longer" and name == "codes.safetensors" and way == 1 and not artifact.objects.is_local:
            continue  # a ranged read of a remote object sees only bytes that are right
        with pytest.raises(DamagedObjectError, match=rf"{name} is damaged .*: run `nlsim verify --repair`"):
            read_all(again(artifact), name)[way]()
    reader = again(artifact)
    (line,) = reader.verify()
    assert name in line
    reader.verify(repair=True)
    assert reader.missing() == [0, 1, 2]
    committed(reader, write)
    assert again(artifact).verify() == []


def test_alteration_anywhere_in_an_array_object_is_noticed_by_the_read_that_touches_it(tmp_path: Path) -> None:
    artifact = Artifact(open_objects(tmp_path), "cache", "00", 1)
    values = np.arange(3 * BLOCK // 4, dtype=np.uint32).reshape(-1, 64)
    writer = artifact.begin(0)
    writer.arrays("codes", {"values": values})
    key = f"{artifact.root}/{writer.commit().objects['codes.safetensors'].key}"
    data = bytearray(artifact.objects.get(key))
    data[2 * BLOCK + 5] ^= 1
    artifact.objects.put(key, bytes(data))
    reader = again(artifact)
    np.testing.assert_array_equal(reader.array(0, "codes", "values", 0, 2000), values[:2000])
    with pytest.raises(DamagedObjectError, match="block 2"):
        reader.array(0, "codes", "values", 2040, 2100)
    with pytest.raises(DamagedObjectError, match="block 2"):
        reader.arrays(0, "codes")


@pytest.mark.parametrize("kind", ["altered", "truncated", "empty", "not json", "newer"])
def test_a_damaged_commit_record_is_never_believed(artifact: Artifact, write: Write, kind: str) -> None:
    record = committed(artifact, write)
    key = f"{artifact.root}/_commit/000000.json"
    data = record.to_bytes()
    changed = {
        "altered": data.replace(b'"rows":500', b'"rows":501'),
        "truncated": data[:-20],
        "empty": b"",
        "not json": b"\xff\x00",
        "newer": record.model_copy(update={"version": 2}).to_bytes(),
    }[kind]
    assert changed != data
    artifact.objects.put(key, changed)
    with pytest.raises(DataError, match=r"_commit/000000\.json is damaged"):
        again(artifact).record(0)
    with pytest.raises(DataError, match=r"_commit/000000\.json is damaged"):
        committed(again(artifact), write)
    reader = again(artifact)
    assert len(reader.verify(repair=True)) == 1
    committed(reader, write)
    assert again(artifact).verify() == []


def test_a_name_or_shard_that_is_not_there(artifact: Artifact, write: Write) -> None:
    committed(artifact, write)
    with pytest.raises(DataError, match=r"cache has no other\.json: shard 0 has codes\.safetensors, facts\.json"):
        artifact.json(0, "other")
    with pytest.raises(DataError, match="has no array x: it has one, index"):
        artifact.array(0, "codes", "x")
    for use in (artifact.record, artifact.begin):
        with pytest.raises(IndexError):
            use(3)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "twice"])
def test_names_of_objects_are_plain_and_used_once(artifact: Artifact, name: str) -> None:
    writer = artifact.begin(0)
    writer.bytes("twice", b"")
    with pytest.raises(ValueError, match="not a new name"):
        writer.bytes(name, b"")


def test_a_record_cannot_lead_out_of_its_artifact(tmp_path: Path) -> None:
    artifact = Artifact(open_objects(tmp_path), "cache", "00", 1)
    writer = artifact.begin(0)
    writer.bytes("raw.bin", b"")
    record = writer.commit()
    for key in ("../../secret", "/etc/passwd", "data/000000-00/../../x", "_commit/000000.json"):
        moved = {"raw.bin": record.objects["raw.bin"].model_copy(update={"key": key})}
        sealed = record.model_copy(update={"objects": moved}).to_bytes()
        with pytest.raises(DamagedObjectError, match=r"objects\.raw\.bin\.key"):
            CommitRecord.from_bytes(sealed, "record")


def test_a_large_object_goes_in_parts(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlsim.store.s3.PART", 5 << 20)
    moved: list[int] = []
    artifact = Artifact(open_objects(s3_url, moved.append), "cache", "00", 1)
    values = np.random.default_rng(0).integers(0, 2**32, (3 << 20,), dtype=np.uint32)
    writer = artifact.begin(0)
    writer.arrays("codes", {"values": values})
    (tmp_path / "file").write_bytes(values.tobytes())
    writer.bytes("raw.bin", tmp_path / "file")
    writer.commit()
    assert sum(moved) >= 2 * values.nbytes
    assert len(moved) >= 6
    reader = again(artifact)
    np.testing.assert_array_equal(reader.array(0, "codes", "values", 1000, 3_000_000), values[1000:3_000_000])
    np.testing.assert_array_equal(reader.arrays(0, "codes")["values"], values)
    assert reader.path(0, "raw.bin").read_bytes() == values.tobytes()
    assert reader.verify() == []


def test_equal_content_gives_equal_objects(artifact: Artifact, write: Write) -> None:
    first, second = committed(artifact, write, 0), committed(artifact, write, 1)
    for name, record in first.objects.items():
        assert record.model_copy(update={"key": ""}) == second.objects[name].model_copy(update={"key": ""})


def test_records_are_readable_json(artifact: Artifact, write: Write) -> None:
    committed(artifact, write)
    plain = json.loads(artifact.objects.get(f"{artifact.root}/_commit/000000.json"))
    assert plain["stage"] == "cache"
    assert plain["objects"]["raw.bin"]["size"] == 5
    assert isinstance(artifact.table(0, "stats"), pa.Table)


def test_what_an_attempt_kept_serves_the_next_and_goes_with_the_commit(artifact: Artifact, write: Write) -> None:
    first = artifact.begin(0)
    assert first.kept("state.pt") is None
    first.keep("state.pt", b"one")
    first.keep("state.pt", b"two")
    first.discard()
    assert again(artifact).missing() == [0, 1, 2]
    second = artifact.begin(0)
    assert second.kept("state.pt") == b"two"
    assert artifact.begin(1).kept("state.pt") is None
    write(second)
    second.commit()
    assert not [key for key in keys(artifact) if "kept" in key]
    assert again(artifact).verify() == []
