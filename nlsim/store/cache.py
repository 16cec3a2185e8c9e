"""Local copies of remote objects in a bounded cache, and the hashing of local files."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nlsim.errors import UsageError

IN_USE_SECONDS = 600.0
"""A copy used within this time is not evicted, even where the cache is larger than allowed."""

_known: dict[tuple[str, int, int, int], str] = {}


def cache_folder() -> Path:
    """Where nlsim caches on this machine: NLSIM_CACHE, else `nlsim` in XDG_CACHE_HOME or ~/.cache."""
    if named := os.environ.get("NLSIM_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nlsim"


def cache_limit() -> int:
    """How many bytes of copies are kept: NLSIM_CACHE_GB (20). Raises UsageError when that is not a number."""
    text = os.environ.get("NLSIM_CACHE_GB", "20")
    try:
        return int(float(text) * 1e9)
    except ValueError:
        raise UsageError(f"NLSIM_CACHE_GB={text!r} is not a number", "give gigabytes, for example 20") from None


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file; computed once per process while the file's identity, size and time stay the same."""
    facts = path.stat()
    identity = (str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns)
    if identity not in _known:
        with path.open("rb") as file:
            _known[identity] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known[identity]


def cached(name: str, fetch: Callable[[Path], None], sha256: str = "") -> Path:
    """The cached copy called `name`, made by `fetch` (which writes the file it is given) when there is none.

    With `sha256` a copy that differs is thrown away and made anew; what `fetch` wrote is the caller's to check.
    Several processes may do this at once: each makes its own copy and the last one stays.
    """
    folder = cache_folder() / "objects"
    path = folder / name[:2] / name
    with suppress(FileNotFoundError):
        if not sha256 or file_sha256(path) == sha256:
            os.utime(path, (time.time(), path.stat().st_mtime))
            return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.{secrets.token_hex(6)}.tmp")
    try:
        fetch(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _evict(folder, cache_limit())
    return path


def _evict(folder: Path, limit: int) -> None:
    """Remove the copies used longest ago until what remains fits, sparing those that may be in use."""
    copies = []
    for path in folder.glob("*/*"):
        with suppress(FileNotFoundError):
            facts = path.stat()
            copies.append((facts.st_atime, facts.st_size, path))
    excess = sum(size for _, size, _ in copies) - limit
    for used, size, path in sorted(copies):
        if excess <= 0 or used > time.time() - IN_USE_SECONDS:
            return
        path.unlink(missing_ok=True)
        excess -= size
