"""Many committers of one shard, and many shards of one artifact."""

import multiprocessing
import sys
import threading
from pathlib import Path

import pytest
from store.reopened import again, keys

from nlsim.store.artifact import Artifact
from nlsim.store.objects import ObjectInfo, open_objects
from nlsim.store.records import commit_key


def _commit_in_process(url: str, number: int, start: "multiprocessing.synchronize.Barrier") -> None:
    artifact = Artifact(open_objects(url), "cache", "0123456789abcdef", 40)
    start.wait()
    for shard in range(40):
        writer = artifact.begin(shard)
        writer.json("who", number)
        writer.json("twice", [number] * 100)
        writer.commit()


def test_processes_that_commit_the_same_shards_at_once(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(4)
    workers = [fork.Process(target=_commit_in_process, args=(str(tmp_path), number, start)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    artifact = Artifact(open_objects(tmp_path), "cache", "0123456789abcdef", 40)
    assert artifact.complete
    assert artifact.verify() == []
    assert len(keys(artifact)) == 40 * 3, "losers left nothing"
    for shard in range(40):
        assert artifact.json(shard, "twice") == [artifact.json(shard, "who")] * 100


def test_threads_that_commit_the_same_shard_at_once(artifact: Artifact) -> None:
    start, records = threading.Barrier(6), []

    def commit(number: int) -> None:
        writer = again(artifact).begin(0)
        writer.json("who", number)
        start.wait()
        records.append(writer.commit())

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records) == 6
    assert len({record.attempt for record in records}) == 1
    assert len(keys(artifact)) == 2
    assert again(artifact).verify() == []


class Counting:
    """A store that lacks one record, and counts what it is asked."""

    url, is_local = "s3://counted", False

    def __init__(self, root: str, shards: int) -> None:
        self.root, self.shards, self.lists, self.others = root, shards, 0, 0

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        self.lists += 1
        first = 1000 * int(prefix.removeprefix(f"{self.root}/_commit/").removesuffix("/"))
        keys = [f"{self.root}/{commit_key(n)}" for n in range(first, min(first + 1000, self.shards)) if n != 77_777]
        assert all(key.startswith(prefix) for key in keys)
        return [ObjectInfo(key, 1, 0.0) for key in keys]

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"status needs no {name}")


def test_status_of_a_hundred_thousand_shards_is_one_listing() -> None:
    counting = Counting("cache/00", 100_000)
    artifact = Artifact(counting, "cache", "00", 100_000)  # type: ignore[arg-type]
    assert artifact.missing() == [77_777]
    assert not artifact.complete
    assert counting.lists == 100, "as many requests as 100,000 keys have pages, several at once"


def test_an_index_of_a_shard_beyond_a_million(tmp_path: Path) -> None:
    artifact = Artifact(open_objects(tmp_path), "cache", "00", 1_000_002)
    writer = artifact.begin(1_000_001)
    writer.json("x", 1)
    writer.commit()
    assert again(artifact).committed == {1_000_001}
    assert again(artifact).json(1_000_001, "x") == 1


def test_threads_read_more_records_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They make room in the same cache, which once broke at 4,096 shards."""
    monkeypatch.setattr("nlsim.store.artifact.KEPT_RECORDS", 3)
    artifact = Artifact(open_objects(tmp_path), "cache", "00", 400)
    record = artifact.begin(0).commit()
    for shard in range(400):
        path = tmp_path / artifact.root / commit_key(shard)
        path.write_bytes(record.model_copy(update={"shard": shard}).to_bytes())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            artifact.refresh()
            assert [record.shard for record in artifact.iter_records()] == list(range(400))
    finally:
        sys.setswitchinterval(before)
