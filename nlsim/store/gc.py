"""What can be removed from a store: data of attempts never committed, what broken-off writes left, old notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from nlsim.store.objects import DamagedObjectError, MissingObjectError, ObjectInfo, Objects
from nlsim.store.records import NAME, CommitRecord, commit_key, shard_of

DAY_SECONDS = 86_400.0

_KEY = re.compile(
    rf"(?P<root>{NAME}/[0-9a-zA-Z]+)/"
    r"(?:(?P<commit>_commit/.+)|data/(?P<shard>\d{6,})-(?P<attempt>[0-9a-z]+)/.+|(?P<note>failures/.+))"
)


class Collected(NamedTuple):
    """What was removed, or would be."""

    objects: int
    bytes: int
    unfinished: int
    """Temporary files or multipart uploads."""


def collect_garbage(objects: Objects, grace: float = DAY_SECONDS, remove: bool = True) -> Collected:
    """Remove what `garbage` finds and unfinished writes as old; with `remove=False` only count them.

    `grace` is in seconds and must be longer than any shard takes: younger data may belong to an attempt at work.
    """
    before = objects.now() - grace
    count = size = 0

    def counted() -> Iterator[str]:
        nonlocal count, size
        for info in garbage(objects, before):
            count += 1
            size += info.size
            yield info.key

    if remove:
        objects.delete(counted())
    else:
        for _ in counted():
            pass
    return Collected(count, size, sum(1 for _ in objects.unfinished(before, remove)))


def garbage(objects: Objects, before: float) -> Iterator[ObjectInfo]:
    """Data objects of attempts that no commit record names and that wrote nothing since `before` (the store's clock),
    and notes of failures before then.

    One pass over a listing in the order of keys, in which an artifact's records come before its data. A record is read
    only where a shard has data of several attempts, and always after they were listed. Where it cannot be read nothing
    of the shard is garbage, for what it named is not known.
    """
    committed: set[int] = set()
    for root, keys in groupby(_parsed(objects), key=lambda found: found[0]["root"]):
        committed.clear()
        for shard, group in groupby(keys, key=lambda found: found[0]["shard"]):
            if shard is None:
                for found, info in group:
                    if found["note"] and info.modified < before:
                        yield info
                    elif found["commit"] and (number := shard_of(found["commit"])) is not None:
                        committed.add(number)
                continue
            attempts: dict[str, list[ObjectInfo]] = {}
            for found, info in group:
                attempts.setdefault(found["attempt"], []).append(info)
            if len(attempts) == 1 and int(shard) in committed:
                continue
            try:
                winner = _winner(objects, root, int(shard))
            except DamagedObjectError:
                continue
            for attempt, infos in attempts.items():
                if attempt != winner and max(info.modified for info in infos) < before:
                    yield from infos


def _parsed(objects: Objects) -> Iterator[tuple[re.Match[str], ObjectInfo]]:
    for info in objects.list():
        if found := _KEY.fullmatch(info.key):
            yield found, info


def _winner(objects: Objects, root: str, shard: int) -> str | None:
    key = f"{root}/{commit_key(shard)}"
    try:
        return CommitRecord.from_bytes(objects.get(key), f"{objects.url}/{key}").attempt
    except MissingObjectError:
        return None
