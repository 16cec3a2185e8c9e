"""The index stage and its readers, on artifacts in a real store, against dense arrays."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from latents.world import World, random_world

from nlsim.corpus.splits import Split
from nlsim.errors import UsageError
from nlsim.latents import index_stage


def check_activations(world: World, z_RTM: np.ndarray) -> None:
    index = world.open()
    for latent in range(index.width):
        row, position = np.nonzero(z_RTM[:, :, latent])
        for split in (None, *Split):
            found = index.activations(latent, split)
            kept = np.ones(len(row), bool) if split is None else index.rows.split_R[row] == split
            np.testing.assert_array_equal(found.row, row[kept])
            np.testing.assert_array_equal(found.position, position[kept])
            np.testing.assert_array_equal(found.token, row[kept] * index.context + position[kept])
            np.testing.assert_array_equal(found.value, z_RTM[row, position, latent][kept].astype(np.float32))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("cache_shards", "index_shards"), [(1, 1), (3, 2), (7, 20)])
def test_gives_back_every_activation(tmp_path: Path, ragged: bool, cache_shards: int, index_shards: int) -> None:
    """Mistakes 9, 30 and 39: latents keep their own entries whatever the ranges, and are read without scanning."""
    world = random_world(tmp_path, ragged=ragged, cache_shards=cache_shards, index_shards=index_shards)
    check_activations(world, world.z_RTM)


def test_small_parts_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """External partition: how much is sorted at once changes nothing."""
    whole = random_world(tmp_path / "a", cache_shards=2)
    monkeypatch.setattr(index_stage, "PART", 50)
    monkeypatch.setattr("nlsim.latents.codes.BLOCK", 64)
    parts = random_world(tmp_path / "b", cache_shards=2)
    digests = [{n: o.sha256 for n, o in w.index.record(0).objects.items()} for w in (whole, parts)]
    assert digests[0] == digests[1]


def test_table_agrees_with_dense_statistics(tmp_path: Path) -> None:
    world = random_world(tmp_path, index_shards=3, settings={"robust_quantile": 0.9})
    z, table = world.z_RTM.astype(np.float64), world.open().table
    split = world.open().rows.split_R
    usable = np.array([(world.open().rows.length_R[split == s] - 1).sum() for s in Split])
    np.testing.assert_array_equal(table.usable_S, usable)
    for s in Split:
        part = z[split == s]
        np.testing.assert_array_equal(table.active_MS[:, s], (part > 0).sum((0, 1)))
        np.testing.assert_array_equal(table.rows_MS[:, s], (part > 0).any(1).sum(0))
        np.testing.assert_allclose(table.sum_MS[:, s], part.sum((0, 1)))
        np.testing.assert_allclose(table.mean(s), part.sum((0, 1)) / usable[s])
    np.testing.assert_array_equal(table.max_M, z.max((0, 1)))
    np.testing.assert_allclose(table.density(), (z > 0).sum((0, 1)) / usable.sum())
    for latent in range(z.shape[2]):
        values = z[:, :, latent][z[:, :, latent] > 0]
        expected = np.quantile(values, 0.9, method="inverted_cdf") if len(values) else 0
        assert table.robust_max_M[latent] == expected


def test_robust_maximum_is_not_the_largest_value(tmp_path: Path) -> None:
    """Mistake 7: one huge activation among thousands does not become a latent's scale."""
    z = np.zeros((40, 64, 2), np.float16)
    z[:, 1:, 0] = 1
    z[3, 7, 0] = 5000
    z[2, 5, 1] = 3
    world = World(tmp_path, np.ones((40, 64)), np.full(40, 64), np.full(40, int(Split.EXPLAIN)), z)
    table = world.open().table
    assert table.max_M.tolist() == [5000, 3]
    assert table.robust_max_M.tolist() == [1, 3]  # of fewer than 1,000 activations the 99.9 % quantile is the largest


def test_position_0_is_never_an_activation(tmp_path: Path) -> None:
    """Mistake 7: BOS is in neither the index nor the maxima."""
    world = random_world(tmp_path)
    index = world.open()
    assert all((index.activations(latent).position >= 1).all() for latent in range(index.width))
    assert (index.rows.usable(np.array([0]), np.zeros(0, int)).sum()) == index.rows.length_R[0] - 1


@pytest.mark.parametrize("ragged", [False, True])
def test_outliers_are_left_out_or_kept_as_asked(tmp_path: Path, ragged: bool) -> None:
    """Mistake 7: massive-norm positions count neither as activations nor as tokens; true codes still have them."""
    outliers = (5, 29, 30, 24 * 31 + 3)
    world = random_world(tmp_path / "a", ragged=ragged, cache_shards=2, outliers=outliers)
    without = world.z_RTM.copy().reshape(-1, 12)
    without[list(outliers)] = 0
    check_activations(world, without.reshape(world.z_RTM.shape))
    index = world.open()
    assert index.excluded.tolist() == list(outliers)
    assert index.table.usable_S.sum() == (index.rows.length_R - 1).sum() - 4
    codes = index.codes_of_rows(np.arange(60)).dense(np.arange(12), 12)
    np.testing.assert_array_equal(codes, world.z_RTM.reshape(-1, 12)[index.rows.positions(np.arange(60))])
    kept = random_world(tmp_path / "b", ragged=ragged, outliers=outliers, settings={"outliers": "keep"})
    check_activations(kept, kept.z_RTM)
    assert len(kept.open().excluded) == 0


@given(st.sets(st.integers(0, 59)), st.lists(st.integers(0, 11), unique=True), st.booleans())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_codes_of_rows(worlds: dict[bool, World], rows: set[int], latents: list[int], ragged: bool) -> None:
    world = worlds[ragged]
    index = world.open()
    wanted = np.array(sorted(rows), np.int64)
    codes = index.codes_of_rows(wanted)
    np.testing.assert_array_equal(codes.token_N, index.rows.positions(wanted))
    truth = world.z_RTM.reshape(-1, 12).astype(np.float32)
    np.testing.assert_array_equal(codes.dense(np.array(latents, int), 12), truth[codes.token_N][:, latents])
    some = codes.token_N % 3 == 0
    np.testing.assert_array_equal(codes.select(some).dense(np.arange(12), 12), truth[codes.token_N[some]])
    assert (codes.value > 0).all()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, World]:
    folder = tmp_path_factory.mktemp("worlds")
    return {ragged: random_world(folder / str(ragged), ragged=ragged, cache_shards=4) for ragged in (False, True)}


def test_splits_that_are_not_cached(tmp_path: Path) -> None:
    world = random_world(tmp_path, splits=("explain", "score"), cache_shards=2)
    index = world.open()
    inside = np.isin(index.rows.split_R, [Split.EXPLAIN, Split.SCORE])
    check_activations(world, np.where(inside[:, None, None], world.z_RTM, 0))
    assert index.table.usable_S.tolist()[Split.TRAIN] == 0
    with pytest.raises(UsageError, match=r"row 0 was not cached.*cache\.splits"):
        index.codes_of_rows(np.array([0]))
    with pytest.raises(UsageError, match="ascend"):
        index.codes_of_rows(np.array([30, 20]))


def test_unknown_latent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no latent 12.*has 12"):
        random_world(tmp_path).open().activations(12)


def test_a_latent_is_one_ranged_read(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistake 39: from S3, once its shard was opened, a latent costs one GET of a small part of the object."""
    from nlsim.store.s3 import S3Objects

    world = random_world(s3_url, rows=3000, width=40, index_shards=2)
    index = world.open()
    index.activations(0)
    index.activations(39)
    requests: list[int] = []
    get = S3Objects.get

    def counted(self: S3Objects, key: str, start: int = 0, length: int | None = None) -> bytes:
        data = get(self, key, start, length)
        requests.append(len(data))
        return data

    monkeypatch.setattr(S3Objects, "get", counted)
    for latent in (3, 25, 38):
        row, position = np.nonzero(world.z_RTM[:, :, latent])
        np.testing.assert_array_equal(index.activations(latent).token, row * index.context + position)
    assert len(requests) == 3
    size = sum(world.index.record(shard).objects["csc.safetensors"].size for shard in range(2))
    assert max(requests) < size / 2


def test_no_model_library_is_needed() -> None:
    """Index and sampling run in the image without torch."""
    modules = "codes, contexts, index, index_stage, select, silent, cache_stage"
    heavy = "{'torch', 'transformers', 'scipy', 'sklearn', 'pandas', 'boto3'}"
    program = f"import sys; from nlsim.latents import {modules}; sys.exit(' '.join(set(sys.modules) & {heavy}) or 0)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
