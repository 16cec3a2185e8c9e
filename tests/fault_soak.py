"""Many faults between nlsim and an S3 server, while shards are written, raced for, read, listed and collected."""

import math
import random
import time
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from s3_proxy import Proxy

from nlsim.errors import NlsimError, TransientError, UsageError
from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.gc import collect_garbage
from nlsim.store.objects import DamagedObjectError, Objects, open_objects

ANY_REQUEST = ("reset", "lost", "500", "503", "409", "skewed")
"""What can happen to every request: the connection breaks, the server refuses."""
READING = ("truncated", "short", "flipped", "checksum", "slow")
"""What can happen to bytes whose SHA-256 a commit record holds, and to the records, which hold their own."""
SHARDS = 20_000
"""So that records lie in several folders; few of them are written."""


class Soaked(NamedTuple):
    """What happened."""

    faults: dict[str, int]
    requests: int
    shards: int
    attempts: int
    """At these shards; those that failed left nothing that counts."""
    reads: int
    refused_reads: int
    """Reads that ended with an error instead of wrong bytes."""
    lists: int
    collected: int
    """Objects of failed attempts that were collected."""


def content(shard: int) -> dict[str, Any]:
    """What the shard holds."""
    return {"codes": np.random.default_rng(shard).integers(0, 9000, (300, 8)).astype(np.uint16), "facts": [shard, "ä"]}


def write(writer: ShardWriter, shard: int, large: int) -> None:
    """The shard's objects; one of `large` bytes among them where that is not 0."""
    made = content(shard)
    writer.arrays("codes", {"index": made["codes"]})
    writer.json("facts", made["facts"])
    if large:
        writer.bytes("large.bin", bytes(large))


def soak(
    proxy: Proxy, url: str, wanted: int, seed: int, rate: float = 0.35, part: int = 0, seconds: float = math.inf
) -> Soaked:
    """Work until `wanted` faults have happened (or for so many seconds), then check without faults that nothing was
    lost or altered.

    With `part` (the least size of a part of an upload) one shard in fifty has an object that is uploaded in parts.
    """
    generator = random.Random(seed)
    happened: Counter[str] = Counter()

    def fault(method: str, path: str) -> str | None:
        if generator.random() >= rate:
            return None
        choices = list(ANY_REQUEST)
        if "list-type" in path:
            choices += ["stale", "truncated"]
        elif method == "GET":
            choices += READING
        elif method == "PUT" and checked:
            choices.append("garbled")
        chosen = generator.choice(choices)
        if chosen == "skewed" and generator.random() < 0.8:
            return None  # it ends the attempt, and other faults should have their turn within one
        happened[chosen] += 1
        return chosen

    objects = open_objects(url)
    checked = refuses_garbled(proxy, objects)
    done: list[int] = []
    attempts = reads = refused = lists = collected = 0
    proxy.fault = fault
    end = time.monotonic() + seconds
    while happened.total() < wanted and time.monotonic() < end:
        shard = generator.choice((0, 999, 1000, 5000)) + 7 * len(done)
        attempts += commit(objects, shard, generator, 2 * part if part and len(done) % 50 == 0 else 0)
        done.append(shard)
        chosen = generator.choice(done)
        try:
            check(artifact_of(objects), chosen)
            reads += 1
        except (TransientError, UsageError, DamagedObjectError):
            refused += 1
        if len(done) % 10 == 0:
            try:
                listed = artifact_of(objects).committed
                assert listed <= set(done), "a list never shows what was not committed"
                lists += 1
                collected += collect_garbage(objects, grace=-60).objects
            except (TransientError, UsageError):
                pass
    proxy.fault = lambda _method, _path: None
    artifact = artifact_of(objects)
    assert artifact.committed == set(done), "every shard that was said to be committed is, and no other"
    for shard in done:
        check(artifact, shard)
    assert artifact.verify() == []
    collected += collect_garbage(objects, grace=-60).objects
    named = {f"{artifact.root}/{entry.key}" for record in artifact.iter_records() for entry in record.objects.values()}
    left = {info.key for info in objects.list() if "/_commit/" not in info.key}
    assert left == named, "what is there is what the records name"
    return Soaked(
        dict(sorted(happened.items())), len(proxy.requests), len(done), attempts, reads, refused, lists, collected
    )


def refuses_garbled(proxy: Proxy, objects: Objects) -> bool:
    """Whether the server compares uploads with their checksums: moto's does not."""
    proxy.fail("garbled", "PUT", "probe")
    objects.put("probe", bytes(99))
    try:
        return objects.get("probe") == bytes(99)
    except DamagedObjectError:
        return False
    finally:
        objects.delete(["probe"])


def artifact_of(objects: Objects) -> Artifact:
    return Artifact(objects, "cache", "00", SHARDS)


def commit(objects: Objects, shard: int, generator: random.Random, large: int) -> int:
    """Try until the shard is committed, now and then by two attempts at once; how many it took."""
    attempts = 0
    while True:
        writers = [artifact_of(objects).begin(shard) for _ in range(generator.choice((1, 1, 2)))]
        committed = set()
        for writer in writers:
            attempts += 1
            try:
                write(writer, shard, large)
            except (TransientError, UsageError):
                give_up(writer)
        for writer in writers:
            try:
                committed.add(writer.commit().attempt)
            except (TransientError, UsageError, DamagedObjectError, ValueError):  # ValueError: given up above
                give_up(writer)
        assert len(committed) <= 1, "all agree who committed"
        if committed:
            return attempts


def give_up(writer: ShardWriter) -> None:
    with suppress(NlsimError):
        writer.discard()


def check(artifact: Artifact, shard: int) -> None:
    """Read a shard in every way. Raises AssertionError for a wrong byte."""
    expected = content(shard)
    np.testing.assert_array_equal(artifact.array(shard, "codes", "index", 100, 200), expected["codes"][100:200])
    np.testing.assert_array_equal(artifact.arrays(shard, "codes")["index"], expected["codes"])
    assert artifact.json(shard, "facts") == expected["facts"]
