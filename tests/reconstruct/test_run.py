"""The stages calibrate and reconstruct on a run with planted truth."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reconstruct.planted import WIDTH, Run, execute, planted_run

from nlsim.config import parse_config
from nlsim.corpus.splits import Split
from nlsim.latents.cache_stage import models
from nlsim.latents.rows import TokenRows
from nlsim.metrics.rows import Row
from nlsim.reconstruct.conditions import Condition
from nlsim.reconstruct.losses import loss_metrics
from nlsim.reconstruct.measure import batch_of
from nlsim.reconstruct.patch import run_batch
from nlsim.reconstruct.stage import Reconstruct


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return planted_run(tmp_path_factory.mktemp("planted"))


def found(rows: list[Row], name: str, **condition: Any) -> Row:
    matches = [row for row in rows if row["name"] == name and condition.items() <= row["condition"].items()]
    assert len(matches) == 1, (name, condition, len(matches))
    return matches[0]


def losses(run: Run) -> list[Row]:
    return loss_metrics(run.artifacts["reconstruct"].tables("losses"), draws=300)


FULL = {"fraction": 1.0, "clip": "none", "positions": "all"}


def test_exact_explanations_come_close_to_the_coder_and_wrong_ones_to_the_mean(run: Run) -> None:
    rows = losses(run)
    recovered = found(rows, "fraction_recovered", values="posterior", **FULL)
    assert recovered["low"] > 0.75
    for baseline in ("zero", "mean"):
        assert found(rows, f"ce_minus_{baseline}", values="posterior", **FULL)["high"] < 0
    refitted = found(rows, "ce_minus_mean", values="shuffled_refitted", **FULL)
    assert refitted["high"] > 0
    assert abs(refitted["value"]) < 0.1 * abs(found(rows, "ce_minus_mean", values="coder", **FULL)["value"])
    assert found(rows, "ce_minus_mean", values="shuffled", **FULL)["low"] > 0, "a map that trusts wrong texts does harm"
    clean, coder = (found(rows, "ce", values=values, **FULL)["value"] for values in ("clean", "coder"))
    assert clean < coder < found(rows, "ce", values="mean", **FULL)["value"]


def test_the_clean_run_is_its_own_measure(run: Run) -> None:
    rows = losses(run)
    assert found(rows, "kl", values="clean", **FULL)["value"] == 0
    assert found(rows, "top1", values="clean", **FULL)["value"] == 1
    kl = {
        values: found(rows, "kl", values=values, **FULL)["value"] for values in ("coder", "posterior", "mean", "random")
    }
    assert 0 < kl["coder"] < kl["posterior"] < kl["mean"] < kl["random"]


def test_every_condition_is_measured_on_the_same_tokens(run: Run) -> None:
    """Mistakes 2 and 6: sentinel sentences entered averages; lists accumulated over conditions."""
    frame = run.artifacts["reconstruct"].tables("losses").to_pandas()
    assert np.isfinite(frame[["ce", "kl", "top1"]]).all().all()
    whole = frame[(frame.fraction == 1) & (frame["clip"] == "none")]
    assert (whole.groupby("values").size() == 24).all()
    assert whole.groupby("row").tokens.nunique().max() == 1
    part = frame[frame.fraction < 1]
    assert (part.groupby(["values", "fraction", "order", "draw"]).size() == 8).all()
    assert set(part["draw"][part.order == "random"]) == {0, 1}


def test_predictions_that_say_nothing_give_mean_ablation(tmp_path: Path) -> None:
    rows = losses(planted_run(tmp_path, quality="none"))
    for values in ("posterior", "shuffled", "shuffled_refitted"):
        assert abs(found(rows, "ce_minus_mean", values=values, **FULL)["value"]) < 1e-3


def test_unexplained_latents_get_what_the_policy_says(run: Run) -> None:
    """Mistake 10: latents without explanation kept their true activations, silently, even at fraction 1."""
    full = {"values": ("clean", "coder", "mean", "posterior"), "curve_rows": 0}
    kl = {
        policy: found(
            losses(run.again(Reconstruct(), policy, **full, unexplained=policy)), "kl", values="posterior", **FULL
        )
        for policy in ("mean", "zero", "true")
    }
    assert kl["true"]["value"] < kl["mean"]["value"]
    assert kl["mean"]["value"] != kl["zero"]["value"]
    assert kl["mean"]["value"] == pytest.approx(found(losses(run), "kl", values="posterior", **FULL)["value"], rel=1e-5)


def test_last_position_only(run: Run) -> None:
    last = run.again(Reconstruct(), "last", positions=("last",), curve_rows=0)
    rows = losses(last)
    assert found(rows, "ce", values="posterior", fraction=1.0, clip="none", positions="last")["n"] == 24
    assert (
        found(rows, "fraction_recovered", values="posterior", fraction=1.0, clip="none", positions="last")["value"]
        > 0.4
    )


def test_shards_and_batches_change_nothing(run: Run) -> None:
    one = run.artifacts["reconstruct"].tables("losses").to_pandas()
    many = run.again(Reconstruct(), "many", shard_rows=7, batch_rows=3)
    assert many.artifacts["reconstruct"].shards == 4
    other = many.artifacts["reconstruct"].tables("losses").to_pandas()
    key = ["values", "fraction", "order", "draw", "clip", "positions", "row"]
    one, other = (frame.sort_values(key).reset_index(drop=True) for frame in (one, other))
    np.testing.assert_array_equal(one[key].to_numpy(), other[key].to_numpy())
    np.testing.assert_allclose(one[["ce", "kl"]], other[["ce", "kl"]], atol=2e-5)


def test_calibrate_reports_quality_at_the_true_prevalence(run: Run) -> None:
    """Mistakes 10 and 33: everything is counted, latents without predictions too, and precision has its true
    prevalence."""
    rows = run.artifacts["calibrate"].json(0, "metrics")
    assert found(rows, "predicted_latents")["value"] == WIDTH - 2
    assert found(rows, "predicted_latents")["n"] == WIDTH
    own = {"explanation": "own", "values": "posterior"}
    assert found(rows, "auc", **own)["value"] > 0.99
    assert found(rows, "precision", **own)["value"] > 0.95
    base = found(rows, "log_loss", explanation="none", values="base_rate")["value"]
    assert found(rows, "log_loss", **own)["high"] < base / 2
    refitted = found(rows, "log_loss", explanation="shuffled", values="refitted")["value"]
    assert refitted == pytest.approx(base, rel=0.1)
    assert found(rows, "log_loss", explanation="shuffled", values="posterior")["low"] > base
    assert found(rows, "activation_fvu", values="posterior")["high"] < 0.15
    assert found(rows, "digit_correlation", explanation="own")["value"] > 0.9
    latents = run.artifacts["calibrate"].table(0, "latents").to_pandas()
    assert len(latents) == WIDTH - 2
    assert latents.slope.median() > 0.9
    reliability = run.artifacts["calibrate"].table(0, "reliability").to_pandas()
    assert set(reliability["values"]) == {"raw", "posterior", "refitted", "base_rate"}
    assert reliability.groupby(["explanation", "values"])["share"].sum().to_numpy() == pytest.approx(1)


def test_an_empty_shard_commits_an_empty_table(run: Run) -> None:
    settings = run.config.model_dump()
    settings["simulate"]["evaluation_rows"] = 300  # more than there are: the budget is an upper bound
    settings["reconstruct"].update(shard_rows=10, curve_rows=0, values=("clean", "coder"))
    wide = Run(parse_config(settings), dict(run.artifacts), run.unexplained)
    execute(wide, Reconstruct(), "wide")
    losses = wide.artifacts["reconstruct"]
    assert losses.shards == 30
    assert min(len(losses.table(shard, "losses")) for shard in range(30)) == 0
    assert len(losses.tables("losses")) == 24 * 2


def test_patching_the_truth_is_the_coder_and_the_clean_prefix_runs_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistakes 11 and 41: truth came from another context than the patched run; the subject ran again from the start
    for every condition. Putting the stored truth in place equals the coder run in this context, from one clean
    prefix."""
    subject, coder = models(run.config.subject, run.config.coder)
    started = []
    start = subject.start
    monkeypatch.setattr(subject, "start", lambda *args: started.append(1) or start(*args))
    rows = TokenRows.of(run.artifacts["tokens"])
    first, _ = rows.block(Split.EVALUATE)
    at_N = rows.positions(np.arange(first, first + 5), first=1)
    at_N = at_N[at_N % rows.context < rows.length_R[at_N // rows.context] - 1]  # a position has a token after it
    batch = batch_of(rows, at_N)
    stored = run.index.codes_of_rows(np.arange(first, first + 5))
    truth_NL = stored.select(np.isin(stored.token_N, at_N)).dense(np.arange(WIDTH), WIDTH)
    conditions = [Condition("coder"), Condition("posterior"), Condition("posterior", clip="value")]
    found = run_batch(subject, coder, batch, np.arange(WIDTH), conditions, lambda *_: truth_NL, coder.meta.k)
    assert len(started) == 1
    for other in found[1:]:
        np.testing.assert_allclose(other.ce_P, found[0].ce_P, atol=5e-3)  # stored in half precision
        np.testing.assert_allclose(other.kl_P, found[0].kl_P, atol=5e-3)
