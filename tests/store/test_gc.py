"""Garbage collection: only what no commit record names, and only when it is old."""

from collections.abc import Callable

from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.gc import Collected, collect_garbage
from nlsim.store.objects import Objects

Write = Callable[[ShardWriter], None]


def keys(objects: Objects) -> set[str]:
    return {info.key for info in objects.list()}


def test_only_what_no_record_names_is_removed(artifact: Artifact, write: Write) -> None:
    objects = artifact.objects
    for shard in (0, 1):
        for done in (False, True, False):
            writer = artifact.begin(shard)
            write(writer)
            if done:
                writer.commit()
    write(artifact.begin(2))
    other = Artifact(objects, "cache", "fedcba98", 1).begin(0)
    write(other)
    other.commit()
    objects.put("config.yaml", b"x")
    objects.put("runs/demo/metrics.json", b"{}")
    objects.put("cache/notes/data/readme.txt", b"not ours")
    named = {
        f"{artifact.root}/{record.key}" for made in artifact.iter_records() for record in made.objects.values()
    } | {f"{artifact.root}/_commit/{shard:06d}.json" for shard in (0, 1)}
    kept = named | {key for key in keys(objects) if "fedcba98" in key} | {"config.yaml", "runs/demo/metrics.json"}
    kept |= {"cache/notes/data/readme.txt"}
    assert collect_garbage(objects, grace=3600) == Collected(0, 0, 0), "all of it is young"
    would = collect_garbage(objects, grace=-60, remove=False)
    assert would.objects == 5 * 4
    assert keys(objects) > kept
    assert collect_garbage(objects, grace=-60) == would
    assert keys(objects) == kept
    artifact.refresh()
    assert artifact.verify() == []


def test_nothing_of_a_shard_is_removed_while_its_record_cannot_be_read(artifact: Artifact, write: Write) -> None:
    for _ in range(2):
        writer = artifact.begin(0)
        write(writer)
    writer.commit()
    artifact.objects.put(f"{artifact.root}/_commit/000000.json", b"{}")
    before = keys(artifact.objects)
    assert collect_garbage(artifact.objects, grace=-60).objects == 0
    assert keys(artifact.objects) == before
    artifact.verify(repair=True)
    assert collect_garbage(artifact.objects, grace=-60).objects == 8


def test_an_attempt_that_still_writes_is_left_alone_whole(artifact: Artifact, write: Write) -> None:
    """Age is that of an attempt's youngest object: an early one of a long shard is not garbage."""
    writer = artifact.begin(0)
    write(writer)
    young = artifact.objects.now()
    listed = artifact.objects.list

    class Aged:
        """The store with one object of the attempt made a day older."""

        def __getattr__(self, name: str) -> object:
            return getattr(artifact.objects, name)

        def list(self, prefix: str = "") -> object:
            for info in listed(prefix):
                yield info._replace(modified=young - 90_000) if "raw" in info.key else info

    assert collect_garbage(Aged(), grace=3600).objects == 0  # type: ignore[arg-type]
    writer.commit()
    assert artifact.verify() == []
