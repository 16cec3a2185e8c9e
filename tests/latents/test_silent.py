"""Silent contexts: verified, matched in position, hard where asked, and never an exception."""

from pathlib import Path

import numpy as np
import pytest
from latents.world import World, check, random_world, world_of

from nlsim.corpus.splits import Split
from nlsim.latents.contexts import Contexts, ContextSampler
from nlsim.latents.index import LatentIndex
from nlsim.latents.silent import SilentSampler


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LatentIndex:
    return random_world(tmp_path_factory.mktemp("world"), rows=500, context=24, outliers=(6000, 6001, 9000)).open()


def pairs(contexts: Contexts) -> list[tuple[int, int]]:
    return sorted(zip(contexts.start_N.tolist(), contexts.length_N.tolist(), strict=True))


@pytest.mark.parametrize("split", [Split.EXPLAIN, Split.SCORE])
def test_silent_windows_are_verified_and_apart(index: LatentIndex, split: Split) -> None:
    """Mistake 19: cached rows of the split, without replacement, at the places of active ones, all silent."""
    seen = 0
    for latent in range(index.width):
        like = ContextSampler(index, 7).draw(latent, split, 12, "random")
        for kind in ("random", "hard"):
            found: Contexts = getattr(SilentSampler(index), kind)(like, split, 12)
            assert not np.intersect1d(found.row_N, like.row_N).size
            assert not found.activation_NL.any()
            assert (found.quantile_N == -1).all()
            begin = found.row_N * index.context + found.start_N
            assert not any(((index.excluded >= b) & (index.excluded < b + 7)).any() for b in begin)
            assert found.status == ("dead" if like.status == "dead" else found.status)
            if len(found.row_N):
                check(found, index, split)
                seen += 1
            if kind == "random" and found.status == "ok" and len(like.row_N) == 12:
                assert pairs(found) == pairs(like)
    assert seen > 10


def test_a_latent_active_in_every_row(tmp_path: Path) -> None:
    """Mistake 19: there are silent windows even then, and none is invented where there are none."""
    z = np.zeros((30, 40, 2))
    z[:, 35:, 0] = 1  # silent in the first part of every row
    z[:, 1:, 1] = 1  # never silent
    z[:10, 10, 0] = 2
    index = world_of(tmp_path, z, Split.SCORE)
    like = ContextSampler(index, 8).draw(0, Split.SCORE, 10, "top")
    assert (like.start_N < 20).all()
    found = SilentSampler(index).random(like, Split.SCORE, 20)
    assert (found.status, len(found.row_N)) == ("ok", 20)
    like = ContextSampler(index, 8).draw(1, Split.SCORE, 10, "random")
    for kind in ("random", "hard"):
        found = getattr(SilentSampler(index), kind)(like, Split.SCORE, 20)
        assert (found.status, len(found.row_N)) == ("dense", 0)


def test_one_free_row_is_found(tmp_path: Path) -> None:
    """Mistake 19: exactly one row with a silent window is no special case."""
    z = np.ones((20, 16, 1))
    z[13] = 0
    index = world_of(tmp_path, z, Split.SCORE)
    like = ContextSampler(index, 8).draw(0, Split.SCORE, 5, "random")
    for kind in ("random", "hard"):
        found = getattr(SilentSampler(index), kind)(like, Split.SCORE, 5)
        assert (found.status, found.row_N.tolist()) == ("few", [13])


def test_dead_latent(tmp_path: Path) -> None:
    index = world_of(tmp_path, np.zeros((5, 8, 1)))
    like = ContextSampler(index, 8).draw(0, Split.EXPLAIN, 5, "quantiles")
    assert (like.status, len(like.row_N), like.tokens_NL.shape) == ("dead", 0, (0, 8))
    for kind in ("random", "hard"):
        assert getattr(SilentSampler(index), kind)(like, Split.EXPLAIN, 5).status == "dead"


def test_hard_windows_have_the_same_token(tmp_path: Path) -> None:
    """Mistake 21: the token that the latent fires on is there, and the latent is silent all the same."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 30, (300, 20))
    tokens[:, 10] = 7
    z = np.zeros((300, 20, 1), np.float16)
    z[:40, 10, 0] = 1 + rng.random(40)
    index = World(tmp_path, tokens, np.full(300, 20), np.full(300, int(Split.SCORE)), z).open()
    like = ContextSampler(index, 8).draw(0, Split.SCORE, 30, "top")
    found = SilentSampler(index).hard(like, Split.SCORE, 60)
    assert found.status == "ok"
    assert (found.tokens_NL[np.arange(60), found.target_N] == 7).all()
    check(found, index, Split.SCORE)


def test_no_other_stands_in_for_a_token_that_always_activates(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(10, 30, (100, 20))
    tokens[:50, 10] = 7
    tokens[50:, 12] = 8
    z = np.zeros((100, 20, 1), np.float16)
    z[:50, 10, 0] = 1
    index = World(tmp_path, tokens, np.full(100, 20), np.full(100, int(Split.SCORE)), z).open()
    like = ContextSampler(index, 8).draw(0, Split.SCORE, 50, "top")
    alone = SilentSampler(index).hard(like, Split.SCORE, 20)
    assert (alone.status, len(alone.row_N)) == ("dense", 0)
