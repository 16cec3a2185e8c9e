"""The cache of local copies: bounded, checked, shared between processes."""

import os
import time
from pathlib import Path

import pytest

from nlsim.errors import UsageError
from nlsim.store import cache
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path / "cache"))


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def write(content: bytes, name: str) -> Path:
    return cache.cached(name, lambda path: path.write_bytes(content) and None)


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLSIM_CACHE", "/a")
    assert cache.cache_folder() == Path("/a")
    monkeypatch.delenv("NLSIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache.cache_folder() == Path("/b/nlsim")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "nlsim"


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hour_ago = time.time() - 3600
    for age, name in enumerate(["new", "middle", "old"]):
        os.utime(write(b"x" * 1000, name), (hour_ago - age, hour_ago))
    monkeypatch.setenv("NLSIM_CACHE_GB", "2.5e-6")
    write(b"x" * 1000, "newest")
    assert copies(tmp_path) == {"newest", "new"}


def test_what_may_be_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLSIM_CACHE_GB", "0")
    write(b"x" * 1000, "one")
    write(b"x" * 1000, "two")
    assert copies(tmp_path) == {"one", "two"}


def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NLSIM_CACHE_GB", "many")
    with pytest.raises(UsageError, match="NLSIM_CACHE_GB='many' is not a number"):
        write(b"", "x")


def test_a_failed_fetch_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.cached("x", fail)
    assert copies(tmp_path) == set()


def test_a_copy_that_was_altered_is_fetched_again(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = Artifact(open_objects(s3_url), "cache", "00", 1)
    writer = artifact.begin(0)
    writer.bytes("raw.bin", b"right")
    writer.commit()
    copy = artifact.path(0, "raw.bin")
    assert copy.is_relative_to(tmp_path)
    before = copy.stat().st_ino
    assert artifact.path(0, "raw.bin").stat().st_ino == before, "used again"
    copy.write_bytes(b"wrong")
    assert artifact.path(0, "raw.bin").read_bytes() == b"right"


def test_a_hash_is_computed_again_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")
    first = cache.file_sha256(path)
    path.write_bytes(b"2")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert cache.file_sha256(path) != first
