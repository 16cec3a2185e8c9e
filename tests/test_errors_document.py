"""docs/errors.md names a test for every row; each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\|.*\| (\d+) \| `([^`]+)::(test_\w+)` \|$")


def test_every_row_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = [line for section in text.split("\n## ")[1:] for line in section.splitlines() if line.startswith("|")]
    rows = [row for row in rows if not row.startswith(("| what is wrong", "|---"))]
    assert len(rows) > 25
    missing = []
    for row in rows:
        found = ROW.match(row)
        assert found, row
        path, name = found.group(2), found.group(3)
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"):
            missing.append(f"{path}::{name}")
    assert not missing
