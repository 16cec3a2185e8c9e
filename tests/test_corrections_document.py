"""docs/corrections.md has a row for each of the 43 known mistakes, and every test that it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$")
TEST = re.compile(r"`([^`]+)::(test_\w+)`")
MISTAKES = 43


def rows() -> list[tuple[int, str, str]]:
    text = (ROOT / "docs" / "corrections.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("| #", "|---"))]
    found = [ROW.match(line) for line in lines]
    assert all(found), lines
    return [(int(row.group(1)), row.group(2), row.group(3)) for row in found if row]


def test_every_mistake_has_its_row() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, MISTAKES + 1))
    assert all(mistake.strip() and shown.strip() for _, mistake, shown in rows())


def test_every_named_test_exists() -> None:
    missing = []
    for number, _, shown in rows():
        named = TEST.findall(shown)
        assert named or not shown.startswith("`"), number
        for path, name in named:
            if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"):
                missing.append(f"{number}: {path}::{name}")
    assert not missing
