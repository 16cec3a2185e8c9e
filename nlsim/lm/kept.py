"""Answers of servers, kept on disk: a run that was cut off does not pay for the same answer twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress
from typing import Any

from nlsim import log
from nlsim.base import canonical_json
from nlsim.store.cache import cache_folder

BUSY_SECONDS = 10.0
"""How long to wait for another process that writes."""


class KeptAnswers:
    """One database per server and model, `answers/` in nlsim's cache folder; delete it to forget.

    Keys are digests, so neither prompts nor credentials are in it. It may be used by several processes, and a process
    may be killed at any moment. Where it cannot be written, answers are not kept, and a line says so.
    """

    def __init__(self, server: str, model: str, keep: bool = True) -> None:
        self._server = server
        folder = cache_folder() / "answers"
        path = folder / f"{hashlib.sha256(f'{server} {model}'.encode()).hexdigest()[:16]}.sqlite"
        self._database: sqlite3.Connection | None = None
        if not keep:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID")
            self._database = database
        except (OSError, sqlite3.Error) as error:
            log.event("answers are not kept", folder=str(folder), error=str(error))

    def key(self, *what: Any) -> bytes:
        """What identifies an answer: everything that was asked."""
        return hashlib.sha256(canonical_json([self._server, *what])).digest()[:16]

    def get(self, key: bytes) -> dict[str, Any] | None:
        """What was kept, or None."""
        if self._database is None:
            return None
        with suppress(sqlite3.Error, ValueError):
            row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
            kept = None if row is None else json.loads(row[0])
            return kept if isinstance(kept, dict) else None
        return None

    def put(self, key: bytes, answer: dict[str, Any]) -> None:
        """Keep an answer, with the model that gave it."""
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
            self._database = None
