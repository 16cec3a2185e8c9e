"""docs/errors.md names a test for every row; each of them exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\|.*\| (\d+) \| `([^`]+)::(test_\w+)` \|$")


def test_every_row_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.search(r"\| \d+ \| ", line)]
    assert len(rows) > 25
    missing = []
    for row in rows:
        found = ROW.match(row)
        assert found, row
        path, name = found.group(2), found.group(3)
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"):
            missing.append(f"{path}::{name}")
    assert not missing
