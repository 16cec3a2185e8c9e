"""Finetuning on the fixtures: the adapter serves a run about other latents and other documents, and no other."""

import json
from pathlib import Path

import pytest
from command import nlsim_apart as nlsim

from nlsim.report.gather import Metrics

TEXT = ("""corpus.source={kind: files, paths: ['docs/*.md'], separator: "\\n## "}""", "corpus.rows.explain=128")
SMALL = (
    *TEXT, "finetune.steps=4", "finetune.judge_every=2", "latents.count=24", "finetune.active=2", "finetune.silent=2",
)  # fmt: skip


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    url = tmp_path_factory.mktemp("finetune") / "run"
    done = nlsim("run", "configs/finetune-tiny.yaml", "--run", str(url), *sets(*SMALL))
    assert done.returncode == 0, done.stderr
    return url


def test_base_and_finetuned_model_stand_beside_the_control(folder: Path) -> None:
    metrics = Metrics(json.loads((folder / "metrics.json").read_text())["metrics"])
    for model in ("base", "finetuned"):
        for explanation in ("own", "other"):
            row = metrics.row("auc", task="finetune", model=model, explanation=explanation)
            assert row is not None
            assert row["n"] > 0
    assert metrics.row("log_loss_minus_base", task="finetune", model="finetuned", explanation="own") is not None
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Loss of the right answer" in page


def test_the_card_says_what_was_taught(folder: Path) -> None:
    card = json.loads((folder / "adapter" / "nlsim.json").read_text())
    assert card["template"]["prompt"] == "digit"
    assert [point[0] for point in card["curve"]] == [0, 2, 4]
    assert card["latents"]
    assert card["documents"]


def test_the_parts_are_commands(folder: Path) -> None:
    for part, stage in (("make-data", "examples"), ("train", "train"), ("eval", "judge")):
        done = nlsim("finetune", part, "--run", str(folder))
        assert done.returncode == 0, done.stderr
        assert f"{stage} is complete" in done.stdout


def test_a_run_takes_the_adapter_for_other_latents_alone(folder: Path, tmp_path: Path) -> None:
    """Mistakes 29 to 31."""
    tiny = (*TEXT, "latents.count=4", "simulate.evaluation_rows=1", "simulate.calibration_rows=1")
    kind = f"kinds={{tuned: {{simulate: {{lm: {{model: 'nlsim:simulator', adapter: '{folder}/adapter'}}}}}}}}"
    url = str(tmp_path / "run")
    words = ("run", "configs/tiny.yaml", "--run", url, "--until", "simulate-tuned")
    done = nlsim(*words, *sets(*tiny, kind, "latents.part=[0.5, 1]", "corpus.rows.train=128"))
    assert done.returncode == 0, done.stderr
    same = ("latents.part=[0, 0.5]", "latents.count=24")
    refused = nlsim(*words, "--update", *sets(*tiny, kind, *same, "corpus.rows.train=128"))
    assert refused.returncode == 2
    assert "was taught" in refused.stderr
