"""Questions for scorers: disjoint from explanations, verified, of every strength, and fair."""

from pathlib import Path

import numpy as np
import pytest
from latents.world import World, world_of
from pydantic import ValidationError

from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.latents.contexts import ContextSampler
from nlsim.score.config import ScoreConfig
from nlsim.score.questions import QuestionMaker, marked_text

PIECES = Pieces([f" w{i}".encode() for i in range(20)])


@pytest.fixture
def world(tmp_path: Path) -> World:
    rng = np.random.default_rng(0)
    rows, context, width = 120, 40, 3
    split = np.repeat([int(Split.EXPLAIN), int(Split.SCORE)], rows // 2)
    tokens = rng.integers(1, 20, (rows, context))
    z = np.where(rng.random((rows, context, width)) < [0.02, 0.1, 0.9], rng.gamma(2, 1, (rows, context, width)), 0)
    return World(tmp_path, tokens, np.full(rows, context), split, z.astype(np.float16))


def maker(world: World, **settings: object) -> QuestionMaker:
    return QuestionMaker(ScoreConfig.model_validate(settings), world.open(), PIECES, seed=3)


def test_scoring_never_shows_what_an_explainer_may_have_seen(world: World) -> None:
    """Mistake 18: with one seed for both, the strongest training contexts were always among the test contexts."""
    index = world.open()
    for latent in range(3):
        seen = set(ContextSampler(index, 32, 3).draw(latent, Split.EXPLAIN, 1000, "quantiles").row_N.tolist())
        active, silent = maker(world, examples=1000, others=1000).contexts(latent)
        tested = set(active.row_N.tolist()) | set(silent.row_N.tolist())
        assert tested
        assert not tested & seen


def test_silent_contexts_are_verified_and_match_positions(world: World) -> None:
    """Mistake 19: non-activating texts were never looked at, and always positions 10 to 41."""
    active, silent = maker(world, examples=20, others=20).contexts(0)
    assert len(silent.row_N)
    for row, start, length in zip(silent.row_N, silent.start_N, silent.length_N, strict=True):
        assert not world.z_RTM[row, start : start + length, 0].any()
    assert set(silent.start_N.tolist()) <= set(active.start_N.tolist())
    assert len(set(silent.start_N.tolist())) > 1
    assert len(np.unique(silent.row_N)) == len(silent.row_N)


def test_hard_contexts_hold_the_tokens_of_the_activating_ones(world: World) -> None:
    """Mistake 21: silent texts that have nothing to do with the latent give it away."""
    active, silent = maker(world, examples=20, others=20, silent="hard").contexts(0)
    assert len(silent.row_N)
    assert not silent.activation_NL.any()
    targets = {
        name: set(contexts.tokens_NL[np.arange(len(contexts.row_N)), contexts.target_N].tolist())
        for name, contexts in (("active", active), ("silent", silent))
    }
    assert targets["silent"] <= targets["active"]
    assert not set(silent.row_N.tolist()) & set(active.row_N.tolist())


@pytest.mark.filterwarnings("ignore")  # the library's own
def test_similar_contexts_are_those_most_like_the_activating_ones(tmp_path: Path, embedding_model: Path) -> None:
    """Silent texts on the same subject are preferred to those on another, whatever tokens the latent is active at."""
    rng = np.random.default_rng(0)
    tokens = np.concatenate([rng.integers(1, 3, (20, 40)), rng.integers(3, 5, (40, 40))])
    z = np.zeros((60, 40, 1), np.float16)
    z[:10, 20] = 1
    world = World(tmp_path, tokens, np.full(60, 40), np.full(60, int(Split.SCORE)), z)
    pieces = Pieces([b"", b" cats", b" dogs", b" rain", b" snow"])
    settings = ScoreConfig(examples=10, others=8, silent="similar", embedding_model=str(embedding_model))
    _, silent = QuestionMaker(settings, world.open(), pieces, seed=3).contexts(0)
    assert (silent.status, len(silent.row_N)) == ("ok", 8)
    assert set(silent.row_N.tolist()) <= set(range(10, 20))
    assert not silent.activation_NL.any()
    with pytest.raises(ValidationError, match=r"silent: similar needs a model: set score\.embedding_model"):
        ScoreConfig(silent="similar")


def test_every_strength_is_asked_about(world: World) -> None:
    """Mistake 20: rank slices dropped the remainder; a value-binned sampler gave empty bins and failed."""
    active, silent = maker(world, examples=23, quantiles=10).contexts(1)
    assert set(active.quantile_N.tolist()) == set(range(10))
    questions = maker(world, examples=23, quantiles=10).detection(active, silent)
    assert sum(question.truth for question in questions) == 23
    assert {question.quantile for question in questions if not question.truth} == {-1}


def test_wrong_marks_stand_at_silent_tokens_of_the_same_texts(world: World) -> None:
    """Mistake 21: wrong marks were always at the same places and in unrelated texts, which gives them away."""
    active, _ = maker(world, examples=20).contexts(0)
    questions = maker(world, examples=20).fuzzing(active)
    shown = {(q.row, q.start) for q in questions}
    assert shown == set(zip(active.row_N.tolist(), active.start_N.tolist(), strict=True))
    places = set()
    for question in questions:
        z = world.z_RTM[question.row, question.start : question.start + len(question.pieces), 0]
        marked = np.flatnonzero(question.marked)
        assert len(marked)
        assert bool((z[marked] > 0).all()) == question.truth
        assert bool((z[marked] == 0).all()) == (not question.truth)
        if not question.truth:
            places.add(tuple(marked.tolist()))
    assert {question.truth for question in questions} == {True, False}
    assert len(places) > 1


def test_the_order_of_questions_says_nothing(world: World) -> None:
    active, silent = maker(world, examples=20, others=20).contexts(0)
    truth = [question.truth for question in maker(world).detection(active, silent)]
    assert truth != sorted(truth)
    assert truth != sorted(truth, reverse=True)


def test_a_silent_latent_has_no_questions_and_a_dense_one_no_silent_contexts(tmp_path: Path) -> None:
    z = np.zeros((6, 36, 2))
    z[:, 1:, 1] = 1.0
    index = world_of(tmp_path, z, Split.SCORE)
    made = QuestionMaker(ScoreConfig(), index, PIECES, 0)
    active, silent = made.contexts(0)
    assert made.detection(active, silent) == []
    assert made.fuzzing(active) == []
    active, silent = made.contexts(1)
    assert silent.status == "dense"
    assert all(question.truth for question in made.detection(active, silent))
    assert all(question.truth for question in made.fuzzing(active))  # no silent token to mark wrongly


def test_marks_join_over_neighbours() -> None:
    assert marked_text(["a", " b", " c", " d"], [True, True, False, True]) == "«a b» c« d»"
    assert marked_text(["a", "b"], [False, False]) == "ab"
