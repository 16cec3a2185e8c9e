"""The whole experiment where everything is known: exact explanations, a reader who understands them, a perfect coder.

The subject's every weight is set by hand (`nlsim.coders.planted`), its coder rebuilds the MLP without error, and the
explanations, which are imported, say exactly when each latent is active. So what the experiment measures is known too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from oracle import Oracle
from planted_folder import settings

from nlsim.cli.main import main
from nlsim.coders.planted import LATENTS, Planted
from nlsim.pipeline.run import Run

DEAD = len(LATENTS)
"""A latent added to the coder that is never active, with an explanation all the same."""


class Finished:
    """The finished run."""

    def __init__(self, url: Path, oracle: Oracle) -> None:
        self.url, self.oracle = url, oracle
        self.run = Run.open(str(url))
        self.rows: list[dict[str, Any]] = json.loads((url / "metrics.json").read_text())["metrics"]

    def metric(self, name: str, **condition: Any) -> dict[str, Any]:
        """The one row of metrics.json that fits."""
        (row,) = [row for row in self.rows if row["name"] == name and condition.items() <= row["condition"].items()]
        return row


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder, oracle = tmp_path_factory.mktemp("planted"), Oracle()
    write_planted(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nlsim.lm.engine.load_engine", lambda *_: oracle)
        url = folder / "run"
        patch.setattr(sys, "argv", ["nlsim", "run", str(folder / "planted.yaml"), "--run", str(url)])
        main()
        yield Finished(url, oracle)


def write_planted(folder: Path) -> None:
    """The planted model with a dead latent beside its own, and the configuration of a run on it."""
    import torch

    from nlsim.coders.file import write_coder
    from nlsim.coders.sparse import SparseCoder

    planted = Planted()
    planted.write(folder, texts=240)
    coder = planted.coder
    more = {
        name: torch.cat([tensor, torch.zeros(1, *tensor.shape[1:])]) if name.split("_")[-1][0] == "M" else tensor
        for name, tensor in coder.tensors.items()
    }
    more["encoder_bias_M"][DEAD] = -1.0
    more["decoder_MO"][DEAD, 0] = 1.0
    meta = coder.meta.model_copy(update={"width": DEAD + 1})
    write_coder(SparseCoder(meta, more), folder / "coder.safetensors")
    explanations = json.loads((folder / "explanations.json").read_text())
    explanations[str(DEAD)] = "The word in another language."
    (folder / "explanations.json").write_text(json.dumps(explanations))
    config = settings(
        folder,
        {"explain": 90, "score": 60, "calibrate": 20, "evaluate": 20},
        {"explain": 0.45, "score": 0.3, "calibrate": 0.12, "evaluate": 0.13},
        name="planted",
        latents={"choose": "listed", "ids": list(range(DEAD + 1))},
        explain={"method": "import", "path": str(folder / "explanations.json")},
        score={"examples": 12, "others": 12, "batch": 5},
        simulate={"calibration_rows": 20, "evaluation_rows": 20, "shots": 2},
        reconstruct={"clips": ["none"], "curve_rows": 5, "fractions": [0.5, 1.0], "random_draws": 1, "draws": 300},
    )
    (folder / "planted.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


FULL = {"fraction": 1.0, "clip": "none", "positions": "all"}


def test_scores_are_nearly_one(finished: Finished) -> None:
    scores = finished.run.artifact("score").tables("scores").to_pandas()
    assert sorted(scores.latent.unique()) == list(range(DEAD)), "a latent that is never active cannot be scored"
    for scorer in ("detection", "fuzzing"):
        mine = scores[scores.scorer == scorer]
        assert len(mine) == DEAD
        assert not mine.failed.any()
        judged = mine[mine.n_neg > 0]  # some words are in every context
        assert len(judged) > 12
        assert judged.balanced_accuracy.mean() > 0.98
        assert judged.auc.min() > 0.8


def test_simulated_loss_is_the_full_coders(finished: Finished) -> None:
    clean, coder = (finished.metric("ce", values=values, **FULL)["value"] for values in ("clean", "coder"))
    assert coder == pytest.approx(clean, abs=1e-4), "the coder is perfect"
    zero, mean = (finished.metric("ce_minus_coder", values=values, **FULL) for values in ("zero", "mean"))
    assert min(zero["low"], mean["low"]) > 0.1, "and its latents matter"
    for values in ("linear", "posterior", "quantile"):
        recovered = finished.metric("fraction_recovered", values=values, **FULL)
        assert recovered["low"] > 0.97, values
        assert finished.metric("ce_minus_coder", values=values, **FULL)["value"] < 0.03 * mean["value"]
    assert finished.metric("kl", values="linear", **FULL)["value"] < 0.01


def test_shuffled_explanations_recover_nothing(finished: Finished) -> None:
    refitted = finished.metric("fraction_recovered", values="shuffled_refitted", **FULL)
    assert refitted["low"] < 0.1
    assert refitted["high"] < 0.35
    assert finished.metric("fraction_recovered", values="shuffled", **FULL)["high"] < 0
    assert finished.metric("fraction_recovered", values="token_mean", **FULL)["high"] < 0.97, "contexts matter"


def test_values_belong_to_their_latents(finished: Finished) -> None:
    """Mistake 1: simulated values were written in the order of a directory listing, to an ascending list of latents."""
    from nlsim.calibrate.signals import read_signals
    from nlsim.simulate.predictions import Predictions

    predictions = Predictions(finished.run.artifact("simulate"))
    windows = predictions.windows
    tokens = finished.run.artifact("tokens").arrays(0, "rows")["tokens"]
    for tile in predictions.tiles():
        expected_LR = read_signals(tile.logprobs_LRC, 0.05).expected_LR
        for latent, expected_R in zip(tile.latent_L.tolist(), expected_LR, strict=True):
            if latent != DEAD:
                truth = [Planted().truth(tokens[row])[:, latent] for row in range(len(tokens))]
                row, position = np.divmod(windows.at_R, tokens.shape[1])
                active = np.array([truth[r][p] for r, p in zip(row, position, strict=True)])
                np.testing.assert_array_equal(expected_R > 4.5, active > 0)


def test_a_latent_that_is_never_active_does_no_harm(finished: Finished) -> None:
    """All zero, yet explained and simulated: its values are 0 everywhere, and no number becomes undefined for it."""
    latents = finished.run.artifact("calibrate").table(0, "latents").to_pandas().set_index("latent")
    assert len(latents) == DEAD + 1
    dead = latents.loc[DEAD]
    assert (dead["mean"], dead.density, dead.robust_max, dead.active_reads) == (0, 0, 0, 0)
    assert dead[["score", "auc", "fvu"]].isna().all()
    assert latents.drop(index=DEAD)[["mean", "slope", "auc", "fvu"]].notna().all().all()
    losses = finished.run.artifact("reconstruct").tables("losses").to_pandas()
    assert np.isfinite(losses[["ce", "kl"]]).all().all()


def test_every_pair_is_accounted_for_in_few_bytes(finished: Finished) -> None:
    """Mistake 38: one prompt and one file for every pair, with its text repeated. Here a tile of many latents is one
    object, a prediction takes 22 bytes, and every pair has its place."""
    from nlsim.simulate.predictions import Predictions

    artifact = finished.run.artifact("simulate")
    record = artifact.records[0]
    reads = len(Predictions(artifact).windows.at_R)
    assert record.counts["predictions"] == (DEAD + 1) * reads
    assert record.counts["failed"] == 0
    tiles = [made for name, made in record.objects.items() if name.startswith("tile")]
    assert len(tiles) == 1
    assert tiles[0].size == pytest.approx(22 * record.counts["predictions"], rel=0.02)


def test_questions_about_all_latents_are_asked_together(finished: Finished) -> None:
    """Mistakes 40 and 42: an object and a wait per pair; the batches about a latent one after the other."""
    assert finished.oracle.calls == 3, "detection, fuzzing and simulation: each hands over all its prompts at once"


def test_metrics_at_the_true_prevalence_are_nearly_perfect(finished: Finished) -> None:
    own = {"explanation": "own", "values": "posterior"}
    for name in ("recall", "precision", "auc"):
        assert finished.metric(name, **own)["value"] > 0.99
    assert finished.metric("activation_fvu", values="linear")["value"] < 0.01
    assert finished.metric("choice_mass")["value"] == pytest.approx(1, abs=1e-3)
