"""Every row of docs/errors.md, end to end: the exit code, one line that says so, nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import nlsim_here
from error_cases import CASES
from error_cases.bench import Bench, Said
from errors_document import Row, rows
from planted_folder import write_folder

from nlsim.pipeline.run import Run
from nlsim.store.gc import garbage
from nlsim.store.objects import open_objects


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def bench(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Bench:
    def call(*words: object) -> Said:
        capsys.readouterr()
        code = nlsim_here(monkeypatch, *words)
        lines = capsys.readouterr().err.strip().splitlines()
        assert not any("Traceback" in line for line in lines)
        assert sum(line.startswith("nlsim: ") for line in lines) == (code != 0), lines
        return Said(code, lines[-1] if lines else "")

    return Bench(call, folder, tmp_path, monkeypatch, request.getfixturevalue)


@pytest.mark.parametrize("row", [row for row in rows() if row.what in CASES], ids=lambda row: row.what)
def test_a_row(row: Row, bench: Bench) -> None:
    said = CASES[row.what](bench)
    assert said.code == row.code, said.line
    if row.code:
        assert said.line.startswith("nlsim: ")
        assert row.fits(said.line), said.line
        assert said.line.isprintable()
    bench.patch.undo()
    if (bench.tmp / "run" / "lineage.json").exists():
        files = open_objects(bench.tmp / "run")
        url = Run.stored_lineage(files).store
        store = open_objects(url) if url else files
        left = [info.key for info in garbage(store, store.now()) if "/failures/" not in info.key]
        assert left == [], "nothing half written"
        assert list(store.unfinished(store.now())) == []
