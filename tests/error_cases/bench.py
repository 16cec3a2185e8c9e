"""What a case works with, and how it is registered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Said(NamedTuple):
    """What a command answered."""

    code: int
    line: str
    """The last line of stderr."""


class Bench(NamedTuple):
    """What a case works with."""

    nlsim: Callable[..., Said]
    """Runs a command in this process."""
    folder: Path
    """See `planted_folder.write_folder`; `store` in it is shared."""
    tmp: Path
    patch: pytest.MonkeyPatch
    fixture: Callable[[str], Any]

    def run(self, *settings: str, until: str | None = None) -> Said:
        """The planted run with some settings."""
        words = [word for setting in settings for word in ("--set", setting)]
        stop = ["--until", until] if until else []
        where = ["--run", self.tmp / "run", "--store", self.folder / "store"]
        return self.nlsim("run", self.folder / "bad.yaml", *where, *words, *stop)

    def toy(self, *words: object) -> Said:
        """`nlsim run` of the toy pipeline."""
        self.fixture("toy_pipeline")
        return self.nlsim("run", self.small(), "--run", self.tmp / "run", *words)

    def small(self, text: str = "") -> Path:
        """A configuration that says the least, and `text`."""
        path = self.tmp / "small.yaml"
        path.write_text("subject: {model: 'nlsim:tiny'}\ncoder: {path: 'nlsim:tiny-skip'}\n" + text)
        return path

    def file(self, name: str, content: bytes | str | dict[str, Any] | list[Any]) -> Path:
        """A file; what is neither bytes nor text is written as JSON."""
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        path.write_bytes(content)
        return path


Case = Callable[[Bench], Said]
CASES: dict[str, Case] = {}


def case(*what: str) -> Callable[[Case], Case]:
    """Name the rows that a function brings about."""

    def named(function: Case) -> Case:
        for row in what:
            assert row not in CASES, row
            CASES[row] = function
        return function

    return named
