"""What calibrations are fitted on: also for latents about which nearly nothing is known."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from latents.world import World

from nlsim.calibrate.inputs import LEVELS, active_quantiles, latents_known, scores_of, token_table, truth_at
from nlsim.calibrate.linear import linear_values
from nlsim.calibrate.posterior import fit_posterior
from nlsim.calibrate.quantile import fit_quantile_map
from nlsim.calibrate.signals import Signals
from nlsim.corpus.splits import Split
from nlsim.latents.index import LatentIndex
from nlsim.store.artifact import Artifact

SPLITS = (Split.EXPLAIN, Split.SCORE, Split.CALIBRATE, Split.EVALUATE)
DEAD, ONE, THREE, LATE, TYPICAL = range(5)
ALL = np.arange(5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Latents active nowhere, at one token, at three, in the calibrate split alone, and at a tenth of the tokens."""
    rng = np.random.default_rng(0)
    rows, context = 40, 24
    split = np.repeat([int(s) for s in SPLITS], rows // 4)
    z = np.zeros((rows, context, 5))
    z[2, 7, ONE] = 4.0
    z[[1, 5, 8], [3, 9, 20], THREE] = [1.0, 2.0, 3.0]
    z[25, 4, LATE] = 2.0
    z[..., TYPICAL] = np.where(rng.random((rows, context)) < 0.1, rng.gamma(2, 1, (rows, context)), 0)
    folder = tmp_path_factory.mktemp("world")
    return World(folder, rng.integers(1, 9, (rows, context)), np.full(rows, context), split, z.astype(np.float16))


@pytest.fixture(scope="module")
def index(world: World) -> LatentIndex:
    return world.open()


def test_quantiles_of_few_activations(index: LatentIndex) -> None:
    """Mistake 34: a grid of 50 levels failed for latents with fewer activations, and overran with more."""
    quantile = active_quantiles(index, ALL)
    assert quantile.shape == (5, len(LEVELS))
    assert not quantile[[DEAD, LATE]].any()
    assert (quantile[ONE] == 4).all()
    assert quantile[THREE][[0, 16, 32]].tolist() == [1, 2, 3]
    assert (np.diff(quantile, axis=1) >= 0).all()


def test_base_rates_come_from_rows_that_are_not_calibrated_on(index: LatentIndex, world: World) -> None:
    """Mistake 23: a latent seen only in the calibrate split is unknown; nothing of the judged rows leaks in."""
    known = latents_known(index, ALL, np.full(5, np.nan))
    part = world.z_RTM[:20, 1:].astype(np.float64)
    np.testing.assert_allclose(known.density_L, (part > 0).mean((0, 1)))
    np.testing.assert_allclose(known.mean_L, part.mean((0, 1)), rtol=1e-3)
    assert (known.density_L[[DEAD, LATE]] == 0).all()
    assert (known.active_mean_L[[DEAD, LATE]] == 0).all()
    assert known.robust_max_L[DEAD] == 0


def test_maps_of_latents_about_which_nothing_is_known(index: LatentIndex) -> None:
    """An all-zero latent, and latents with one or three activations: finite values, 0 for the first, in every map."""
    known = latents_known(index, ALL, np.full(5, np.nan))
    at_R = np.arange(20 * 24 + 1, 21 * 24 - 1)
    truth_LR = truth_at(index, ALL, at_R)
    rng = np.random.default_rng(1)
    odds = rng.normal(-3, 1, truth_LR.shape).astype(np.float32)
    signals = Signals(np.clip(odds + 5, 0, 9), odds)
    posterior = fit_posterior(signals, truth_LR, known)
    quantile = fit_quantile_map(signals.expected_LR, known.density_L, active_quantiles(index, ALL), 100.0)
    values = {
        "posterior": posterior.values(signals),
        "quantile": quantile.values(signals.expected_LR),
        "linear": linear_values(signals.expected_LR, known.robust_max_L),
    }
    for name, value_LR in values.items():
        assert np.isfinite(value_LR).all(), name
        assert (value_LR >= 0).all(), name
        assert not value_LR[DEAD].any(), name
    assert not values["posterior"][LATE].any()
    assert not values["quantile"][LATE].any()
    np.testing.assert_allclose(values["posterior"].mean(1), known.mean_L, atol=1e-3, rtol=0.05)


def test_truth_is_the_stored_code(index: LatentIndex, world: World) -> None:
    at_R = np.array([2 * 24 + 7, 5 * 24 + 9, 25 * 24 + 4, 39 * 24 + 23])
    truth = truth_at(index, ALL, at_R)
    np.testing.assert_array_equal(truth, world.z_RTM.reshape(-1, 5)[at_R].T.astype(np.float32))


def test_token_means_are_those_of_the_known_rows(index: LatentIndex, world: World) -> None:
    known = latents_known(index, ALL, np.full(5, np.nan))
    table = token_table(index, ALL, known.mean_L, np.arange(1, 9))
    tokens = np.asarray(world.tokens.arrays(0, "rows")["tokens"])[:20, 1:].reshape(-1)
    z = world.z_RTM[:20, 1:].reshape(-1, 5).astype(np.float64)
    for token in range(1, 9):
        np.testing.assert_allclose(table.values(np.array([token]))[0], z[tokens == token].mean(0), rtol=1e-3)


def score_artifact(folder: Path, **columns: list[object]) -> Artifact:
    from nlsim.store.objects import open_objects

    artifact = Artifact(open_objects(folder), "score", "5" * 16, 1)
    types = {"latent": pa.int64(), "scorer": pa.string(), "balanced_accuracy": pa.float64(), "auc": pa.float64()}
    writer = artifact.begin(0)
    writer.table("scores", pa.table({name: pa.array(columns.get(name, []), kind) for name, kind in types.items()}))
    writer.commit()
    return artifact


def test_scores_of_latents_that_were_not_scored(tmp_path: Path) -> None:
    """Mistake 17: latents without a score come last because they have none, not because of a number made up."""
    some = score_artifact(
        tmp_path / "some",
        latent=[3, 1, 3],
        scorer=["detection", "detection", "fuzzing"],
        balanced_accuracy=[0.9, 0.6, 0.5],
        auc=[0.95, 0.7, 0.5],
    )
    np.testing.assert_array_equal(scores_of(some, np.array([0, 1, 3, 4])), [np.nan, 0.6, 0.9, np.nan])
    embedding = score_artifact(
        tmp_path / "embedding", latent=[1], scorer=["embedding"], balanced_accuracy=[0.5], auc=[0.8]
    )
    np.testing.assert_array_equal(scores_of(embedding, np.array([1, 2])), [0.8, np.nan])
    assert np.isnan(scores_of(score_artifact(tmp_path / "none"), np.array([1, 2]))).all()
