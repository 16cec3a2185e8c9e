"""Sampling of contexts: what is promised of every draw, and the old mistakes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latents.world import World, check, random_world, world_of

from nlsim.corpus.splits import Split
from nlsim.latents.contexts import ContextSampler, Kind, place, spread
from nlsim.latents.index import LatentIndex
from nlsim.latents.silent import SilentSampler

KINDS: list[Kind] = ["top", "random", "quantiles", "importance"]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LatentIndex:
    return random_world(tmp_path_factory.mktemp("world"), rows=400, context=24).open()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [5, 40])
def test_activating_contexts(index: LatentIndex, kind: Kind, length: int) -> None:
    sampler = ContextSampler(index, length)
    for latent in range(index.width):
        contexts = sampler.draw(latent, Split.EXPLAIN, 20, kind)
        rows = len(np.unique(index.activations(latent, Split.EXPLAIN).row))
        assert len(contexts.row_N) == min(20, rows)
        assert contexts.available == rows
        assert contexts.status == ("dead" if rows == 0 else "few" if rows < 20 else "ok")
        if rows:
            check(contexts, index, Split.EXPLAIN)
            longest = index.rows.length_R[contexts.row_N] - 1
            np.testing.assert_array_equal(contexts.length_N, np.minimum(length, longest))
            assert (contexts.activation_NL[np.arange(len(contexts.row_N)), contexts.target_N] > 0).all()
            assert (np.diff(contexts.strength_N) <= 0).all()
            assert (np.diff(contexts.quantile_N) >= 0).all()


def test_training_and_test_contexts_share_no_document(tmp_path: Path) -> None:
    """Mistakes 18 and 23: however often they are drawn and with whatever seeds, no document is in both."""
    rng = np.random.default_rng(1)
    document = np.arange(200) // 3
    split = np.where(document < 40, int(Split.EXPLAIN), int(Split.SCORE))
    z = (rng.random((200, 16, 3)) < 0.3).astype(np.float16)
    world = World(tmp_path, rng.integers(1, 9, (200, 16)), np.full(200, 16), split, z, document_R=document)
    index = world.open()
    train: set[int] = set()
    test: set[int] = set()
    for seed in range(3):
        for kind in KINDS:
            sampler = ContextSampler(index, 8, seed)
            train.update(document[sampler.draw(0, Split.EXPLAIN, 40, kind).row_N])
            positive = sampler.draw(0, Split.SCORE, 40, kind)
            test.update(document[positive.row_N])
            test.update(document[SilentSampler(index, seed).random(positive, Split.SCORE, 20).row_N])
    assert train
    assert test
    assert not train & test


def test_top_contexts_are_the_strongest_rows(index: LatentIndex) -> None:
    found = ContextSampler(index, 6).draw(7, Split.SCORE, 15, "top")
    active = index.activations(7, Split.SCORE)
    peaks = sorted((active.value[active.row == row].max() for row in np.unique(active.row)), reverse=True)
    np.testing.assert_array_equal(found.strength_N, peaks[:15])
    np.testing.assert_array_equal(found.activation_NL[np.arange(15), found.target_N], found.strength_N)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 60), st.integers(0, 10**6))
@settings(deadline=None)
def test_rank_quantiles_drop_nothing(candidates: int, quantiles: int, count: int, seed: int) -> None:
    """Mistake 20: parts differ in size by one at most, all candidates are in one, and nothing is lost by rounding."""
    quantile = np.arange(candidates) * quantiles // candidates
    sizes = np.bincount(quantile, minlength=quantiles)
    assert sizes.sum() == candidates
    assert sizes.max() - sizes.min() <= 1
    chosen = spread(quantile, quantiles, count, np.random.default_rng(seed))
    assert len(chosen) == len(set(chosen.tolist())) == min(count, candidates)
    taken = np.bincount(quantile[chosen], minlength=quantiles)
    quota = count // quantiles + (np.arange(quantiles) < count % quantiles)
    assert (taken >= np.minimum(quota, sizes)).all()


def test_quantile_0_is_the_strongest(index: LatentIndex) -> None:
    """Mistake 20: the direction of quantiles is that of strength, and every part gives as many contexts."""
    found = ContextSampler(index, 8).draw(8, Split.EXPLAIN, 12, "quantiles", quantiles=4)
    assert np.bincount(found.quantile_N).tolist() == [3, 3, 3, 3]
    strongest = [found.strength_N[found.quantile_N == q].max() for q in range(4)]
    assert strongest == sorted(strongest, reverse=True)


def test_importance_prefers_mass(tmp_path: Path) -> None:
    z = np.zeros((400, 8, 1))
    z[:, 4, 0] = 0.01
    z[::4, 4, 0] = 10
    found = ContextSampler(world_of(tmp_path, z), 4).draw(0, Split.EXPLAIN, 50, "importance")
    assert (found.row_N % 4 == 0).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_draws_do_not_depend_on_their_order(index: LatentIndex, kind: Kind) -> None:
    """Mistake 36: no generator is shared between latents, splits, purposes or calls."""

    def draw(sampler: ContextSampler, silent: SilentSampler, latent: int) -> list[object]:
        like = sampler.draw(latent, Split.SCORE, 10, kind)
        all_three = like, silent.random(like, Split.SCORE, 10), silent.hard(like, Split.SCORE, 10)
        return [x.tolist() if isinstance(x, np.ndarray) else x for contexts in all_three for x in contexts]

    latents = [4, 9, 2, 11]
    forward = {latent: draw(ContextSampler(index, 8, 5), SilentSampler(index, 5), latent) for latent in latents}
    shared = ContextSampler(index, 8, 5), SilentSampler(index, 5)
    backward = {latent: draw(*shared, latent) for latent in reversed(latents)}
    assert forward == backward
    if kind != "top":
        assert forward[9] != draw(ContextSampler(index, 8, 6), SilentSampler(index, 6), 9)


def test_contexts_are_counted_in_rows_not_tokens(tmp_path: Path) -> None:
    """Mistake 22: 200 active tokens in 5 rows are 5 contexts, and said to be few."""
    z = np.zeros((50, 41, 1))
    z[:5, 1:, 0] = 1
    index = world_of(tmp_path, z)
    assert index.table.active_MS.sum() == 200
    found = ContextSampler(index, 8).draw(0, Split.EXPLAIN, 40, "quantiles")
    assert (found.status, found.available, len(found.row_N)) == ("few", 5, 5)


@given(st.integers(1, 60), st.integers(2, 64), st.integers(1, 40), st.integers(0, 40))
def test_windows_are_clipped_to_the_row(position: int, row_length: int, length: int, before: int) -> None:
    if position >= row_length:
        position = row_length - 1
    (start,), (size,) = place(np.array([position]), np.array([row_length]), length, min(before, length - 1))
    assert 1 <= start <= position < start + size <= row_length
    assert size == min(length, row_length - 1)
