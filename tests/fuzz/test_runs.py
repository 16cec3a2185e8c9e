"""Whatever a configuration, a run's files or a store's URL hold: they are read, or refused by one of nlsim's errors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from fuzz.material import TEXTS, VALUES, altered, elsewise, fuzz, survives
from hypothesis import example
from hypothesis import strategies as st

from argo.cluster import load_cluster
from nlsim.base import canonical_json
from nlsim.config import Config, load_config
from nlsim.foreign import yaml_of
from nlsim.pipeline.run import Run
from nlsim.store.formats import parse_header
from nlsim.store.objects import open_objects
from nlsim.store.records import CommitRecord

TINY = Path("configs/tiny.yaml").read_bytes()
WHOLE = load_config("configs/tiny.yaml").config.model_dump(mode="json")
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@fuzz(altered(TINY))
@example(b"a: &a [*a]\nname: x")
@example(LAUGHS.encode())
@example(b"[" * 2_000)
@example(b"seed: " + b"9" * 5000)
@example(b"seed: 2024-13-45")
@example(b"seed: !!timestamp x")
@example(b"seed: !!python/object/apply:os.system [id]")
@example(b"1: 2\n? [a, b]\n: c\nnull: d")
def test_configurations(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    survives(lambda: load_config(tmp_path / "c.yaml"))


@fuzz(elsewise(WHOLE))
def test_settings_of_any_type(tmp_path: Path, value: Any) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(value) if isinstance(value, dict) else "", encoding="utf-8")
    found = survives(lambda: load_config(tmp_path / "c.yaml"))
    assert found is None or Config.model_validate(yaml.safe_load(found.config.to_yaml())) == found.config


@fuzz(TEXTS, TEXTS | st.sampled_from(["{a: &a [*a]}", "[", "!!int x", "2024-13-45", "*a"]))
def test_overrides(key: str, value: str) -> None:
    for override in (f"{key}={value}", f"lm.{key}={value}", f"kinds.top.{key}={value}", f"seed={value}"):
        survives(lambda override=override: load_config("configs/tiny.yaml", [override]))


def test_aliases_are_fine_where_they_are_few() -> None:
    assert yaml_of("a: &a {b: 1}\nc: *a") == {"a": {"b": 1}, "c": {"b": 1}}
    with pytest.raises(ValueError, match="too large, or holds itself"):
        yaml_of(LAUGHS)


@fuzz(altered(b"gpu: {shared_memory_gb: 8}\nimages: {cpu: a}\n") | VALUES.map(lambda v: yaml.safe_dump(v).encode()))
def test_settings_of_a_cluster(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    survives(lambda: load_cluster(tmp_path / "c.yaml"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of the toy pipeline as it is before its first stage."""
    folder = tmp_path_factory.mktemp("fuzzed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nlsim.pipeline.registry.pipeline_of", lambda _: toy.toy())
        Run.create(str(folder), load_config("configs/tiny.yaml").config)
        yield folder


def files(made: Path, name: str, data: bytes, folder: Path) -> str:
    """A copy of the run in which one file holds other bytes."""
    for path in made.glob("*.*"):
        (folder / path.name).write_bytes(data if path.name == name else path.read_bytes())
    return str(folder)


@fuzz(st.data(), share=0.5)
def test_a_runs_files(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    for name in ("config.yaml", "lineage.json"):
        url = files(made, name, data.draw(altered((made / name).read_bytes())), tmp_path)
        survives(lambda url=url: Run.open(url))


@fuzz(st.data(), share=0.5)
def test_a_sealed_lineage(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    """One whose checksum fits, whatever it says."""
    plain = json.loads((made / "lineage.json").read_bytes())
    plain.pop("sha256", None)
    plain = data.draw(elsewise(plain))
    try:
        sealed = {**plain, "sha256": hashlib.sha256(canonical_json(plain)).hexdigest()}
        text = json.dumps(sealed).encode()
    except (ValueError, UnicodeEncodeError):  # what no file of ours can hold
        return
    run = survives(lambda: Run.open(files(made, "lineage.json", text, tmp_path)))
    if run is not None:
        survives(lambda: [run.artifact(stage.name).missing() for stage in run.pipeline.stages])
    assert not (tmp_path.parent / "escaped").exists()


RECORD = CommitRecord(
    stage="cache", fingerprint="f", shard=0, shards=2, objects={"a.json": {"key": "data/000000-a/a.json", "size": 1,
    "sha256": "0" * 64}}, counts={"rows": 5}, code_version="1", engine={"host": "h"}, started=1.0, seconds=2.0,
    attempt="a",
)  # fmt: skip


@fuzz(altered(RECORD.to_bytes()))
def test_commit_records(data: bytes) -> None:
    found = survives(lambda: CommitRecord.from_bytes(data, "record"))
    assert found is None or found == RECORD, "no altered record is ever believed"


@fuzz(elsewise(RECORD.model_dump(mode="json")))
def test_sealed_commit_records(plain: Any) -> None:
    try:
        data = canonical_json({**plain, "sha256": hashlib.sha256(canonical_json(plain)).hexdigest()})
    except (ValueError, UnicodeEncodeError):
        return
    found = survives(lambda: CommitRecord.from_bytes(data, "record"))
    if found is not None:
        assert all(".." not in entry.key and not entry.key.startswith("/") for entry in found.objects.values())


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()


@fuzz(altered(len(HEADER).to_bytes(8, "little") + HEADER), st.integers(0, 200))
@example(b"\0" * 8 + b"[" * 50_000, 10)
@example(b"\0" * 8 + b"[1, 2]", 10)
@example(b"\0" * 8 + b'{"a": {"dtype": [], "shape": 5, "data_offsets": [0, "x"]}}', 10)
def test_headers_of_arrays(header: bytes, size: int) -> None:
    try:
        placed = parse_header(header, size)
    except ValueError:
        return
    assert all(array.start + array.size <= size for array in placed.values())


@fuzz(
    st.from_regex(r"(s3|file|http|S3|)(:/{0,3})[^\x00]{0,12}(/[^\x00]{0,12}){0,2}[?#@%]?.{0,4}", fullmatch=True) | TEXTS
)
@example("s3://[::1")
@example("s3://bucket/a?versionId=1")
@example("s3://key:secret@bucket/a")
@example("s3://bucket/../../a")
@example("file://host/a")
@example("s3://bu cket/%2e%2e/%00")
def test_urls_of_stores(url: str) -> None:
    objects = survives(lambda: open_objects(url))
    if objects is not None:
        for key in ("../a", "/a", "a//b", "a/../b", "a\x00"):
            assert survives(lambda key=key: objects.info(key)) is None
