"""The command line: exit codes, one-line errors, resuming, machine-readable output."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml
from command import nlsim_here as nlsim

from nlsim.cli.main import COMMANDS
from nlsim.pipeline.pipeline import Pipeline

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "boto3", "scipy", "sklearn", "pydantic", "numpy")


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A configuration file for the toy pipeline."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}}))
    return str(path)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['nlsim', '--help']\n"
        "from nlsim.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nlsim(monkeypatch, command, "--help") == 0
    assert "Usage:" in capsys.readouterr().out


def test_run_then_status_verify_and_gc(
    toy_pipeline: Pipeline,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = str(tmp_path / "run")
    assert nlsim(monkeypatch, "run", small, "--run", url, "--until", "squares") == 0
    assert "squares is complete" in capsys.readouterr().out
    assert nlsim(monkeypatch, "status", url, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert [(s["name"] if "name" in s else s["stage"], s["missing"]) for s in status["stages"]] == [
        ("numbers", 0),
        ("squares", 0),
        ("total", 1),
    ]
    assert nlsim(monkeypatch, "status", url) == 0
    assert f"next: total; carry on with `nlsim run --run {url}`" in capsys.readouterr().out
    assert nlsim(monkeypatch, "verify", url) == 0
    assert nlsim(monkeypatch, "gc", url, "--grace-hours", "0") == 0
    assert "deleted 0 objects" in capsys.readouterr().out


def test_verify_finds_and_repairs_a_changed_byte(
    toy_pipeline: Pipeline,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = str(tmp_path / "run")
    nlsim(monkeypatch, "run", small, "--run", url, "--until", "squares")
    victim = next((tmp_path / "run").glob("squares/*/data/000001-*/squares.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    assert nlsim(monkeypatch, "verify", url) == 3
    assert "squares.parquet" in capsys.readouterr().out
    assert nlsim(monkeypatch, "verify", url, "--repair") == 0
    assert nlsim(monkeypatch, "run", "--run", url, "--until", "squares") == 0
    assert "1 of 4 shards" in capsys.readouterr().out
    assert nlsim(monkeypatch, "verify", url) == 0


def test_one_shard_as_a_container_runs_it(
    toy_pipeline: Pipeline,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = str(tmp_path / "run")
    assert nlsim(monkeypatch, "plan", small, "--run", url) == 0
    capsys.readouterr()
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    monkeypatch.setenv("NLSIM_RUN", url)
    assert nlsim(monkeypatch, "stage", "numbers") == 0
    assert json.loads(capsys.readouterr().out) == {"stage": "numbers", "shard": 2, "committed": True, "computed": True}
    assert nlsim(monkeypatch, "stage", "numbers") == 0
    assert json.loads(capsys.readouterr().out)["computed"] is False
    assert nlsim(monkeypatch, "stage", "squares") == 4, "numbers is not complete"
    assert nlsim(monkeypatch, "stage", "numbers", "--shard-index", "9") == 2


def test_plan_prints_cost_and_writes_nothing_without_a_run(
    toy_pipeline: Pipeline,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nlsim(monkeypatch, "plan", small) == 0
    out = capsys.readouterr().out
    assert "32.8 M" in out
    assert "H200" in out
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
    assert nlsim(monkeypatch, "plan", small, "--json") == 0
    assert [s["shards"] for s in json.loads(capsys.readouterr().out)["stages"]] == [toy.SHARDS, toy.SHARDS, 1]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run"], 2, "nothing to run: give a configuration"),
        (["run", "absent.yaml"], 2, "cannot read the configuration absent.yaml"),
        (["run", "--run", "nowhere"], 2, "no run at nowhere"),
        (["status", "nowhere"], 2, "no run at nowhere"),
        (["stage", "numbers"], 2, "Missing option '--run'"),
        (["frobnicate"], 2, "No such command"),
        (["run", "--set", "seed=1", "--run", "x"], 2, "need the configuration"),
    ],
)
def test_errors_are_one_line_with_their_code(
    words: list[str],
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NLSIM_RUN", raising=False)
    assert nlsim(monkeypatch, *words) == code
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nlsim(monkeypatch, "status", "nowhere", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unexpected_error_says_that_it_is_a_bug(
    toy_pipeline: Pipeline,
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TOY_FAIL", "0")
    assert nlsim(monkeypatch, "run", small, "--run", str(tmp_path / "run")) == 1
    assert "unexpected RuntimeError: asked to fail" in capsys.readouterr().err


def test_data_cannot_drive_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nlsim(monkeypatch, "status", "evil\x1b[31m") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_config_show_names_sources(
    small: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nlsim(monkeypatch, "config", "show", small, "--set", "seed=7") == 0
    out = capsys.readouterr().out
    assert any(line.split() == ["seed", "7", "--set"] for line in out.splitlines())
    assert any(line.split() == ["subject.model", '"nlsim:tiny"', "file"] for line in out.splitlines())
    assert nlsim(monkeypatch, "config", "show", small, "--yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == "small"


def test_the_schema_is_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert nlsim(monkeypatch, "config", "schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Config"


def test_doctor_checks_a_store(
    store_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nlsim(monkeypatch, "doctor", "--run", store_url) == 0
    assert "keeps conditional writes" in capsys.readouterr().out


def test_the_shell_completes_commands_and_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_NLSIM_COMPLETE", "bash_complete")
    for words, last, expected in (
        ("nlsim pl", 1, ["plan"]),
        ("nlsim report --format ", 3, ["text", "md", "html", "json"]),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(last))
        assert nlsim(monkeypatch) == 0
        assert capsys.readouterr().out.split() == [f"plain,{word}" for word in expected]
