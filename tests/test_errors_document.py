"""docs/errors.md names a test for every row; each of them exists, and each row is tried by the command line."""

from errors_document import ROOT, rows

from error_cases import CASES  # isort: skip - a module of ours

BY_COMMAND = ("tests/cli/", "tests/cluster/", "tests/experiments/", "tests/store/test_crashes.py")
"""Where tests call the command line themselves."""


def test_every_row_names_a_test_that_exists() -> None:
    missing = []
    for row in rows():
        file = ROOT / row.path
        if not file.exists() or f"def {row.test}(" not in file.read_text(encoding="utf-8"):
            missing.append(f"{row.path}::{row.test}")
    assert len(rows()) > 25
    assert missing == []


def test_every_row_is_tried_by_the_command_line() -> None:
    """By `tests/cli/test_errors.py`, which has a case of the row's name, or by the test that the row names."""
    known = {row.what for row in rows()}
    assert set(CASES) <= known, "a case of a row that is gone"
    assert [row.what for row in rows() if row.what not in CASES and not row.path.startswith(BY_COMMAND)] == []
