"""The whole article experiment on the fixtures: finishes, resumes, survives kills byte for byte, reports its names."""

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, get_args

import pytest
from command import COMMAND, ROOT, environment
from command import nlsim_apart as nlsim

from nlsim.pipeline.run import Run
from nlsim.reconstruct.config import Values

CONFIG = ROOT / "configs" / "tiny.yaml"


@pytest.fixture
def tiny(tiny_run: tuple[str, str]) -> tuple[str, str]:
    """A finished run: its folder and what the command printed."""
    return tiny_run


def data_of(url: str, stages: tuple[str, ...]) -> dict[str, str]:
    """SHA-256 of every committed object of some stages."""
    run = Run.open(url)
    return {
        f"{stage}/{shard}/{name}": made.sha256
        for stage in stages
        for shard, record in run.artifact(stage).records.items()
        for name, made in record.objects.items()
    }


def test_it_ends_with_findings_and_the_place_of_the_report(tiny: tuple[str, str]) -> None:
    url, printed = tiny
    assert printed.rstrip().endswith(f"report: {url}/report/index.html")
    assert "Cross-entropy in nats per token" in printed


def test_metrics_have_the_documented_form_and_names(tiny: tuple[str, str]) -> None:
    metrics = json.loads(Path(tiny[0], "metrics.json").read_text())
    assert metrics["schema"] == 1
    assert metrics["run"] == "tiny"
    rows: list[dict[str, Any]] = metrics["metrics"]
    assert all(row.keys() == {"name", "condition", "value", "low", "high", "n", "unit"} for row in rows)
    values = {row["condition"].get("values") for row in rows if row["name"] == "ce"}
    assert values == set(get_args(Values))
    names = {row["name"] for row in rows}
    assert {"kl", "top1", "ce_minus_zero", "ce_minus_mean", "ce_minus_token_mean", "ce_minus_coder"} <= names
    assert {"recall", "precision", "auc", "brier", "balanced_accuracy", "f1"} <= names
    for row in rows:
        if row["low"] is not None and row["value"] is not None:
            assert row["low"] <= row["value"] + 1e-9, row
            assert row["value"] <= row["high"] + 1e-9, row
            assert row["n"] > 0, row


def test_the_clean_condition_loses_nothing(tiny: tuple[str, str]) -> None:
    rows = json.loads(Path(tiny[0], "metrics.json").read_text())["metrics"]
    clean = [row for row in rows if row["condition"].get("values") == "clean"]
    assert {row["value"] for row in clean if row["name"] == "kl"} == {0.0}
    assert {row["value"] for row in clean if row["name"] == "top1"} == {1.0}


def test_a_second_call_computes_nothing(tiny: tuple[str, str]) -> None:
    again = nlsim("run", str(CONFIG), "--run", tiny[0])
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already done") == 9
    assert nlsim("verify", tiny[0]).returncode == 0


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tiny: tuple[str, str], tmp_path: Path) -> None:
    stages = ("tokens", "cache", "index", "explain")
    url = str(tmp_path / "killed")
    moments = random.Random(0)
    kills = 0
    for _ in range(5):  # bench/soak.py does a thousand
        process = subprocess.Popen(
            [*COMMAND, "run", str(CONFIG), "--run", url, "--until", "explain"],
            cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(moments.uniform(1, 8))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            break
    done = nlsim("run", str(CONFIG), "--run", url, "--until", "explain", "--join")
    assert done.returncode == 0, done.stderr
    assert kills > 0
    assert data_of(url, stages) == data_of(tiny[0], stages)


def test_sigterm_exits_75_and_the_next_call_carries_on(tmp_path: Path) -> None:
    url = str(tmp_path / "stopped")
    process = subprocess.Popen(
        [*COMMAND, "run", str(CONFIG), "--run", url, "--until", "index"],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not Path(url, "plan.json").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=300)
    if process.returncode != 0:  # it may have been done before the signal came
        assert process.returncode == 75, err
        assert "run the same command again" in err
    assert nlsim("run", "--run", url, "--until", "index").returncode == 0


def test_the_same_run_in_a_bucket_has_the_same_bytes(tiny: tuple[str, str], s3_url: str) -> None:
    done = nlsim("run", str(CONFIG), "--run", s3_url, "--until", "explain")
    assert done.returncode == 0, done.stderr
    stages = ("tokens", "cache", "index", "explain")
    assert data_of(s3_url, stages) == data_of(tiny[0], stages)


@pytest.mark.browser
def test_the_report_opens_and_shows_its_latents(tiny: tuple[str, str], open_page: Any) -> None:
    opened = open_page(Path(tiny[0], "report", "index.html").read_text(encoding="utf-8"))
    assert opened.errors == []
    assert opened.requests == []
    assert opened.page.locator("#latents li").count() > 20
    assert opened.page.locator("table").count() >= 5
    opened.page.wait_for_selector("#detail .context")


@pytest.mark.browser
def test_a_run_gets_the_interactive_page_later(tiny: tuple[str, str], tmp_path: Path, open_page: Any) -> None:
    url = str(shutil.copytree(tiny[0], tmp_path / "run"))
    refused = nlsim("report", "--page", "interactive", "--run", url)
    assert refused.returncode == 2
    assert "this run continues no prompts" in refused.stderr
    wanted = ("continuations.documents=1", "continuations.tokens=6", "continuations.fractions=[0.5]")
    settings = [word for setting in wanted for word in ("--set", setting)]
    done = nlsim("run", str(CONFIG), "--run", url, "--update", "--until", "continue", *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already done") == 7
    made = nlsim("report", "--page", "interactive", "--run", url)
    assert made.stdout.strip() == f"{url}/report/interactive.html"
    opened = open_page(Path(url, "report", "interactive.html").read_text(encoding="utf-8"), "#condition=simulated")
    assert opened.errors == []
    assert opened.requests == []
    assert opened.page.locator("#strip .tok.a .word").count() == 6
    assert "Rebuilt from simulated values" in opened.page.locator("#said").inner_text()
    assert "explanations find" in opened.page.locator("#counted").inner_text()
    opened.page.wait_for_selector("#detail-body .context")
