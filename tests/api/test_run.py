"""`nlsim.open`: what a finished run says, its latents, and what an unfinished one says instead."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

import nlsim
from nlsim.api.draw import card_of, html
from nlsim.api.run import RunView
from nlsim.corpus.splits import Split
from nlsim.errors import DataError, IncompleteError, UsageError
from nlsim.pipeline.run import Run
from nlsim.simulate.predictions import Predictions


@pytest.fixture(scope="module")
def run(tiny_run: tuple[str, str]) -> RunView:
    return nlsim.open(tiny_run[0])


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys, nlsim; print(sorted(m for m in sys.modules if m.split('.')[0] in ('numpy', 'pydantic', 'torch')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = nlsim.opne  # type: ignore[attr-defined]


def test_tables_are_those_of_the_stages(run: RunView) -> None:
    assert run.name == "tiny"
    assert run.latents.explained == sorted(run.explanations["latent"].to_pylist())
    assert set(run.scores["scorer"].to_pylist()) == {"detection", "fuzzing"}
    assert len(run.examples) == pc.sum(run.scores["n_pos"]).as_py() + pc.sum(run.scores["n_neg"]).as_py()
    assert {"row", "document", "ce", "kl"} <= set(run.losses.schema.names)
    assert run.documents.schema.names == ["document", "name", "split", "tokens"]
    assert all(done == shards for done, shards in run.progress().values())
    assert "9 of 9 stages complete" in repr(run)


def test_metrics_are_those_of_the_file(run: RunView) -> None:
    stored = json.loads(Path(run.url, "metrics.json").read_text())["metrics"]
    frame = run.metrics.to_pandas()
    assert frame["value"].dropna().tolist() == [row["value"] for row in stored if row["value"] is not None]
    clean = frame[(frame["name"] == "ce") & (frame["values"] == "clean")]
    assert clean["value"].tolist() == [
        row["value"] for row in stored if row["name"] == "ce" and row["condition"]["values"] == "clean"
    ]


def test_a_latents_contexts_hold_its_activations(run: RunView) -> None:
    latent = run.latents[run.latents.explained[0]]
    active = latent.activations("explain").to_pandas().set_index(["row", "position"])["value"]
    assert len(active) == run.latents.index.table.active_MS[latent.id, Split.EXPLAIN]
    contexts = latent.contexts(5, length=16)
    strengths = contexts["strength"].to_pylist()
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == active.max()
    for row in contexts.to_pylist():
        assert len(row["tokens"]) == len(row["activations"]) <= 16
        for offset, value in enumerate(row["activations"]):
            assert value == active.get((row["row"], row["start"] + offset), 0.0)


def test_predictions_of_one_latent_are_those_of_all(run: RunView) -> None:
    """Reading one latent by ranges gives what reading every tile gives, and truth at the same places."""
    latent = run.latents[run.latents.explained[-1]]
    found = latent.predictions().to_pandas()
    whole = Predictions(run.artifact("simulate"))
    assert found["row"].tolist() == (whole.windows.at_R // run.latents.index.context).tolist()
    logprobs_RC = whole.read(np.array([latent.id]))[0].astype(np.float64)
    share_RC = np.exp(logprobs_RC) / np.exp(logprobs_RC).sum(1, keepdims=True)
    np.testing.assert_allclose(found["expected"], share_RC @ np.arange(10), atol=2e-3)
    active = latent.activations().to_pandas().set_index(["row", "position"])["value"]
    truth = [active.get((row, position), 0.0) for row, position in zip(found["row"], found["position"], strict=True)]
    np.testing.assert_array_equal(found["true"], np.array(truth, np.float32))
    assert run.kinds == (run.kind,) == ("base",)
    calibrated = found[found["split"] == "calibrate"]
    assert calibrated["value"].mean() == pytest.approx(
        run.artifact("calibrate").arrays(0, "posterior")["mean"][list(whole.latents).index(latent.id)], rel=0.01
    )
    assert found["probability"].between(0, 1).all()


def test_a_latent_draws_itself(run: RunView, capsys: pytest.CaptureFixture[str]) -> None:
    latent = next(iter(run.latents))
    latent.show(contexts=3)
    out = capsys.readouterr().out
    assert out.startswith(f"latent {latent.id}\n")
    assert "«" in out, "strong tokens are marked without colour too"
    page = latent._repr_html_()
    assert f"<b>latent {latent.id}</b>" in page
    assert "<script" not in page


def test_hostile_text_is_inert() -> None:
    from nlsim.api.draw import Card, Score, Token, rich, terminal

    evil = "<script>alert(1)</script>\x1b[31m"
    card = Card(1, evil, "", (Score(evil, 0.5, 0.4, 0.6),), ((Token(evil, 1.0, 1.0),),))
    assert "<script" not in html(card)
    with terminal().capture() as captured:
        terminal().print(rich(card))
    assert "\x1b" not in captured.get()


def test_what_is_not_there_is_said(run: RunView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at"):
        nlsim.open(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"there is no latent 99999: the coder has \d+"):
        run.latents[99999]
    with pytest.raises(UsageError, match="has no kind 'top': its kinds are base"):
        run.of_kind("top")
    with pytest.raises(UsageError, match="there is no split 'best'"):
        run.latents[0].contexts(split="best")
    silent = next(latent for latent in range(run.latents.width) if latent not in run.latents.explained)
    assert (run.latents[silent].status, run.latents[silent].explanation) == ("not chosen", None)
    with pytest.raises(DataError, match=f"latent {silent} has no predictions"):
        run.latents[silent].predictions()
    fresh = RunView(Run.create(str(tmp_path / "fresh"), run.config))
    assert "0 of 9 stages complete" in repr(fresh)
    with pytest.raises(IncompleteError, match="score lacks 1 of 1 shards"):
        _ = fresh.scores
    with pytest.raises(IncompleteError, match="tokens lacks"):
        fresh.latents[0]


def test_a_run_in_a_bucket_reads_the_same(run: RunView, s3_url: str) -> None:
    from nlsim.store.objects import open_objects

    there = open_objects(s3_url)
    for path in sorted(Path(run.url).rglob("*")):
        if path.is_file():
            there.put(path.relative_to(run.url).as_posix(), path)
    other = nlsim.open(s3_url)
    latent = run.latents.explained[0]
    assert other.scores.equals(run.scores)
    assert other.latents[latent].predictions().equals(run.latents[latent].predictions())
    assert card_of(other.latents[latent]) == card_of(run.latents[latent])
