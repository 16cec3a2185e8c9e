"""Why attempts at shards failed: small notes beside an artifact's data, for people. No result depends on them."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from nlsim.base import Section, canonical_json
from nlsim.errors import NlsimError
from nlsim.store.artifact import Artifact
from nlsim.store.objects import DamagedObjectError, MissingObjectError

LONGEST_REASON = 1000
_KEY = re.compile(r"failures/(\d{6,})-[0-9a-z]+\.json")


class Failure(Section):
    """One attempt that ended without a commit and could still say why."""

    version: Literal[1] = 1
    stage: str
    shard: int
    attempt: str
    host: str
    started: float = Field(ge=0, lt=1e11)
    """Seconds since the epoch."""
    ended: float = Field(ge=0, lt=1e11)
    exit_code: int
    reason: str
    """One line."""


class FailedShard(NamedTuple):
    """A shard whose attempts have failed so far."""

    shard: int
    attempts: int
    last: Failure


def reason_of(error: BaseException) -> tuple[int, str]:
    """Exit code and line that the command line has for an error."""
    if isinstance(error, NlsimError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    return 1, f"unexpected {type(error).__name__}: {error}"


def note_failure(artifact: Artifact, failure: Failure) -> None:
    """Leave a note. Where the store refuses it there is none: what failed is more important than the note."""
    short = failure.model_copy(update={"reason": " ".join(failure.reason.split())[:LONGEST_REASON]})
    with suppress(NlsimError):
        artifact.objects.put(
            f"{artifact.root}/failures/{failure.shard:06d}-{failure.attempt}.json", canonical_json(short.model_dump())
        )


def failures(artifact: Artifact) -> Iterator[Failure]:
    """All notes, by shard and then by time. A note that cannot be read is left out."""
    for shard in (by_shard := _keys(artifact)):
        found = [note for key in by_shard[shard] if (note := _read(artifact, key)) is not None]
        yield from sorted(found, key=lambda note: note.ended)


def failed_shards(artifact: Artifact, missing: Container[int], most: int) -> Iterator[FailedShard]:
    """The first `most` of the shards in `missing` whose attempts have failed, by one listing and a request for each."""
    for shard, keys in _keys(artifact).items():
        if shard in missing and most > 0 and (last := _read(artifact, keys[-1])) is not None:
            most -= 1
            yield FailedShard(shard, len(keys), last)


def _keys(artifact: Artifact) -> dict[int, list[str]]:
    """Keys of the notes by shard, those of one shard from the oldest to the youngest."""
    by_shard: dict[int, list[tuple[float, str]]] = {}
    for info in artifact.objects.list(f"{artifact.root}/failures/"):
        if found := _KEY.fullmatch(info.key, len(artifact.root) + 1):
            by_shard.setdefault(int(found[1]), []).append((info.modified, info.key))
    return {shard: [key for _, key in sorted(keys)] for shard, keys in sorted(by_shard.items())}


def _read(artifact: Artifact, key: str) -> Failure | None:
    try:
        return Failure.model_validate_json(artifact.objects.get(key))
    except (ValidationError, MissingObjectError, DamagedObjectError):
        return None
