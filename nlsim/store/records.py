"""Commit records: what a finished shard left, and the only thing that makes its objects count."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nlsim.base import Section, canonical_json
from nlsim.store.objects import DamagedObjectError

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Names of objects within a shard."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


PER_FOLDER = 1000
"""Commit records in one folder: as many as one page of an S3 listing shows."""


def commit_key(shard: int) -> str:
    """Key of a shard's commit record within its artifact; from shard 1,000 on in folders of a thousand.

    A gateway to a file system reads a whole folder for every page of a listing: one of 10⁵ records would be slow.
    """
    group = shard // PER_FOLDER
    return f"_commit/{group:03d}/{shard:06d}.json" if group else f"_commit/{shard:06d}.json"


def commit_prefixes(shards: int) -> list[str]:
    """Prefixes of keys that part the records of `shards` shards into at most a thousand each."""
    folders = range(1, -(-shards // PER_FOLDER))
    return ["_commit/000", *(f"_commit/{group:03d}/" for group in folders)]


def shard_of(key: str) -> int | None:
    """The shard whose commit record lies under `key` (within its artifact), None for other keys."""
    digits = key.rpartition("/")[2].removesuffix(".json")
    return int(digits) if digits.isascii() and digits.isdigit() and commit_key(int(digits)) == key else None


class ObjectRecord(Section):
    """One data object of a shard."""

    key: str = Field(pattern=rf"^data/[0-9]{{6,}}-[0-9a-z]+/{NAME}$")
    """Its key within the artifact."""
    size: int = Field(ge=0)
    """In bytes."""
    sha256: Sha256
    blocks: str = Field(default="", pattern=r"^([0-9a-f]{16})*$")
    """Of arrays: the first 16 hex digits of the SHA-256 of each 256 KiB, to check ranged reads."""


class CommitRecord(Section):
    """What one shard holds and how it was made."""

    version: Literal[1] = 1
    stage: str
    fingerprint: str
    shard: int = Field(ge=0)
    shards: int = Field(ge=1)
    objects: dict[str, ObjectRecord]
    """By name, extension included."""
    counts: dict[str, int]
    """What was counted: rows, tokens, predictions …"""
    code_version: str
    engine: dict[str, str]
    """Facts about what computed it."""
    started: float
    """Seconds since the epoch."""
    seconds: float
    attempt: str
    """Which attempt it was that won."""

    def to_bytes(self) -> bytes:
        """The record as it is stored: JSON that carries a SHA-256 of itself."""
        plain = self.model_dump(mode="json")
        return canonical_json({**plain, "sha256": hashlib.sha256(canonical_json(plain)).hexdigest()})

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> CommitRecord:
        """Parse a stored record. Raises DamagedObjectError, naming it, for anything that `to_bytes` did not write."""
        try:
            plain: Any = json.loads(data)
            seal = plain.pop("sha256")
            if seal != hashlib.sha256(canonical_json(plain)).hexdigest():
                raise DamagedObjectError(name, "its SHA-256 does not match its content")
            return cls.model_validate(plain)
        except ValidationError as error:
            raise DamagedObjectError(name, f"not a commit record of this version of nlsim: {_first(error)}") from error
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise DamagedObjectError(name, "not a commit record") from error

    def describes(self, other: CommitRecord) -> bool:
        """Whether both are of the same shard of the same inputs."""
        return (self.stage, self.fingerprint, self.shard, self.shards) == (
            other.stage,
            other.fingerprint,
            other.shard,
            other.shards,
        )


def _first(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
