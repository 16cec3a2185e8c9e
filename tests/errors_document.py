"""docs/errors.md as data: what is wrong, what nlsim says, the exit code, the test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (.*?) \| (.*) \| (\d+) \| `([^`]+)::(test_\w+)` \|$")


class Row(NamedTuple):
    """One thing that can go wrong."""

    what: str
    says: str
    code: int
    path: str
    test: str

    def fits(self, line: str) -> bool:
        """Whether a line of stderr is what the row says: one of its alternatives, in which `…` and words in italics
        stand for anything."""
        return any(
            re.search(".*".join(re.escape(part.strip()) for part in re.split(r"…|\*[^*]+\*", alternative)), line)
            for alternative in self.says.split(" / ")
        )


def rows() -> list[Row]:
    """Every row. Raises AssertionError for a line of a table that is none."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    lines = [line for section in text.split("\n## ")[1:] for line in section.splitlines() if line.startswith("|")]
    found = []
    for line in lines:
        if not line.startswith(("| what is wrong", "|---")):
            match = ROW.match(line)
            assert match, line
            found.append(Row(match[1], match[2], int(match[3]), match[4], match[5]))
    return found
