"""`nlsim status` with failures, `verify --repair`, what log lines name."""

import json
from pathlib import Path

import pytest
from command import nlsim_here as nlsim

from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run

CONFIG = "subject: {model: nlsim:tiny}\ncoder: {path: nlsim:tiny-skip}\n"


@pytest.fixture
def url(toy_pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run whose shard 2 of `squares` has failed twice."""
    (tmp_path / "toy.yaml").write_text(CONFIG)
    run = str(tmp_path / "run")
    monkeypatch.setenv("TOY_FAIL", "2")
    for _ in range(2):
        assert nlsim(monkeypatch, "run", tmp_path / "toy.yaml", "--run", run, "--until", "total") == 1
    monkeypatch.delenv("TOY_FAIL")
    return run


def test_status_says_why_a_shard_failed_and_how_to_try_again(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert nlsim(monkeypatch, "status", url) == 0
    said = capsys.readouterr().out
    assert "squares 2 failed 2 times, last on " in said
    assert "(exit 1): unexpected RuntimeError: asked to fail after writing data" in said
    assert f"  again: nlsim stage squares --run {url} --shard-index 2" in said
    assert nlsim(monkeypatch, "status", url, "--json") == 0
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert (failure["stage"], failure["shard"], failure["attempts"], failure["exit_code"]) == ("squares", 2, 2, 1)
    assert nlsim(monkeypatch, *failure["retry"].split()[1:]) == 0
    capsys.readouterr()
    assert nlsim(monkeypatch, "status", url) == 0
    said = capsys.readouterr().out
    assert "failed" not in said
    assert "3/4" in said


def test_a_shard_that_was_stopped_says_so(
    toy_pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "toy.yaml").write_text(CONFIG)
    run = str(tmp_path / "run")
    monkeypatch.setattr("nlsim.pipeline.execute.stop_requested", lambda: True)
    assert nlsim(monkeypatch, "run", tmp_path / "toy.yaml", "--run", run) == 75
    assert nlsim(monkeypatch, "status", run) == 0
    assert "numbers 0 failed on " in (said := capsys.readouterr().out)
    assert "(exit 75): stopped on request" in said


def test_notes_of_failures_are_collected_when_they_are_old(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nlsim(monkeypatch, "gc", url) == 0
    assert nlsim(monkeypatch, "status", url) == 0
    assert "failed 2 times" in capsys.readouterr().out, "young ones are kept"
    assert nlsim(monkeypatch, "gc", url, "--grace-hours", "-1") == 0
    assert not [info for info in Run.open(url).store.list() if "/failures/" in info.key]


def test_verify_names_what_it_repairs(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nlsim(monkeypatch, "run", "--run", url, "--until", "total") == 0
    for pattern in ("squares/*/data/000001-*/squares.parquet", "numbers/*/_commit/000003.json", "total.json"):
        (path,) = Path(url).glob(pattern)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    assert nlsim(monkeypatch, "verify", url, "--json") == 3
    found = json.loads(capsys.readouterr().out)
    assert [len(found["damaged"][name]) for name in ("numbers", "squares", "total")] == [1, 1, 0]
    assert len(found["copies"]) == 1
    assert found["withdrawn"] == {}
    assert nlsim(monkeypatch, "verify", url, "--repair") == 0
    said = capsys.readouterr().out
    assert "numbers: forgot the commit of shard 3\n" in said
    assert "squares: forgot the commit of shard 1\n" in said
    assert f"`nlsim run --run {url}` recomputes exactly these" in said
    assert "1 published copies are made again" in said
    assert nlsim(monkeypatch, "run", "--run", url, "--until", "total") == 0
    assert capsys.readouterr().out.count("1 of 4 shards") == 2
    assert nlsim(monkeypatch, "verify", url) == 0


def test_log_lines_name_run_stage_and_shard(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NLSIM_LOG", "json")
    capsys.readouterr()
    assert nlsim(monkeypatch, "run", "--run", url, "--until", "total") == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    committed = [(line["run"], line["stage"], line["shard"]) for line in lines if line["event"] == "committed"]
    assert committed == [(url, "squares", 2), (url, "squares", 3), (url, "total", 0)]
