"""Every engine gives the same distribution as transformers, one prompt at a time."""

from __future__ import annotations

import copy
import functools

import lm_models as models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import count_reads

from nlsim.lm import packed as packed_module
from nlsim.lm.backend import Backbone
from nlsim.lm.config import LmConfig
from nlsim.lm.llama import LlamaForward
from nlsim.lm.packed import PackedEngine
from nlsim.lm.plain import TransformersEngine
from nlsim.lm.prompts import PromptTree, leaf

TOLERANCE = 5e-5
"""Largest difference of log-probabilities in float32; the models' weights are large, logits reach ±20."""

CHOICES = tuple(range(10, 20))
SHAPE = [[[], []], [], [[], [[], []], []]]


@functools.cache
def engine(family: str, batch_tokens: int = 1000, dtype: torch.dtype = torch.float32) -> PackedEngine:
    return PackedEngine(LmConfig(model=family, batch_tokens=batch_tokens), model=models.model(family, dtype))


@functools.cache
def oracle(family: str, dtype: torch.dtype = torch.float32) -> TransformersEngine:
    return TransformersEngine(LmConfig(model=family), model=models.model(family, dtype))


def answers(engine: PackedEngine | TransformersEngine, trees: list[PromptTree]) -> list[np.ndarray]:
    return [choices.logprobs_RC for choices in engine.choose(trees, CHOICES)]


def worst(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    assert [a.shape for a in first] == [b.shape for b in second]
    return max((float(np.abs(a - b).max(initial=0)) for a, b in zip(first, second, strict=True)), default=0.0)


@pytest.mark.parametrize("batch_tokens", [1000, 40, 7])
@pytest.mark.parametrize("family", list(models.FAMILIES))
def test_packed_equals_one_prompt_at_a_time(family: str, batch_tokens: int) -> None:
    rng = np.random.default_rng(0)
    trees = [models.tree(rng, SHAPE, 12) for _ in range(3)]
    found = answers(engine(family, batch_tokens), trees)
    assert worst(found, answers(oracle(family), trees)) < TOLERANCE
    assert all(np.ptp(logprobs, axis=0).min() > 0.1 for logprobs in found)  # prompts differ, and so do answers


@pytest.mark.parametrize("family", ["llama", "llama-scaled", "qwen2", "mistral-window"])
def test_both_ways_of_running_a_llama_agree(family: str) -> None:
    """On a CPU in float32 the Llama family has its own code; elsewhere it is an attention backend like the others."""
    rng = np.random.default_rng(8)
    trees = [models.tree(rng, SHAPE, 12) for _ in range(3)]
    made = engine(family, 40)
    assert isinstance(made.backbone, LlamaForward)
    generic = engine.__wrapped__(family, 40)
    generic.backbone = Backbone(generic.model)
    assert worst(answers(made, trees), answers(generic, trees)) < TOLERANCE
    assert worst(answers(generic, trees), answers(oracle(family), trees)) < TOLERANCE


shapes = st.recursive(st.just([]), lambda branch: st.lists(branch, min_size=1, max_size=4), max_leaves=8)


@settings(max_examples=25, deadline=None)
@given(shape=st.lists(shapes, min_size=1, max_size=3), seed=st.integers(0, 2**16), tokens=st.integers(1, 60))
def test_random_tries(shape: list[object], seed: int, tokens: int) -> None:
    """Any trie, cut into micro-batches anywhere, gives the answers of its prompts run alone."""
    rng = np.random.default_rng(seed)
    trees = [models.tree(rng, branches, 5) for branches in shape]
    trees += trees[:1]  # duplicates
    assert worst(answers(engine("llama", tokens), trees), answers(oracle("llama"), trees)) < TOLERANCE


def test_edges() -> None:
    """No prefix, suffixes of one token, nothing read, an empty node, all positions read, shared leaves."""
    rng = np.random.default_rng(1)
    nothing = np.empty(0, dtype=np.int64)
    ids = rng.integers(3, models.VOCABULARY, size=30)
    leaves = (leaf(ids[:1]), leaf(ids[1:2]), leaf(ids[:9], range(9)))
    trees = [
        PromptTree(nothing, nothing, leaves),
        PromptTree(ids, nothing, leaves),
        PromptTree(ids, nothing, ()),
        PromptTree(ids[:20], nothing, (PromptTree(nothing, nothing, leaves), *leaves)),
        leaf(ids),
        leaf(ids, range(30)),
    ]
    for tokens in (500, 16, 3):
        found = answers(engine("llama", tokens), trees)
        assert [len(logprobs) for logprobs in found] == [count_reads(tree) for tree in trees]
        assert worst(found, answers(oracle("llama"), trees)) < TOLERANCE
    assert answers(engine("llama"), []) == []


def test_tries_with_a_common_stem_compute_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistake 41: what the prompts of all latents share is not computed per latent."""
    rng = np.random.default_rng(2)
    few_shot = rng.integers(3, models.VOCABULARY, size=50)
    windows = tuple(leaf(rng.integers(3, models.VOCABULARY, size=4)) for _ in range(6))
    nothing = np.empty(0, dtype=np.int64)
    explanations = [rng.integers(3, models.VOCABULARY, size=5) for _ in range(8)]
    trees = [PromptTree(np.concatenate([few_shot, text]), nothing, windows) for text in explanations]
    rows = []
    plan = packed_module.plan
    monkeypatch.setattr(packed_module, "plan", lambda *args: rows.append(len((made := plan(*args)).tokens_T)) or made)
    found = answers(engine("llama", 100), trees)
    assert sum(rows) <= 50 + 8 * (5 + 6 * 4)
    assert max(rows) <= 100
    assert worst(found, answers(oracle("llama"), trees)) < TOLERANCE


@pytest.mark.parametrize("shift", [1, -1])
def test_wrong_positions_are_noticed(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerance is strict enough: positions off by one below the first level must fail it."""
    rng = np.random.default_rng(3)
    trees = [models.tree(rng, SHAPE, 12)]
    right = answers(oracle("llama"), trees)
    plan = packed_module.plan

    def shifted(*args: object) -> object:
        made = plan(*args)
        return made._replace(positions_T=np.where(made.positions_T > 12, made.positions_T + shift, made.positions_T))

    monkeypatch.setattr(packed_module, "plan", shifted)
    assert worst(answers(engine("llama"), trees), right) > 100 * TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_good_as_the_librarys(dtype: torch.dtype) -> None:
    """Against float32, the error is at most 1.5 times that of plain transformers in the same precision."""
    rng = np.random.default_rng(4)
    trees = [models.tree(rng, SHAPE, 12) for _ in range(5)]
    exact = np.concatenate(answers(oracle("llama"), trees))
    library = np.concatenate(answers(oracle("llama", dtype), trees))
    ours = np.concatenate(answers(engine("llama", 64, dtype), trees))
    assert np.abs(ours - exact).mean() <= 1.5 * np.abs(library - exact).mean()
    assert np.abs(ours - exact).mean() > 0  # it did run in that precision


def test_mass_is_over_the_whole_vocabulary() -> None:
    """Mistake 12: log-probabilities are not renormalised over the choices, and all of them are given."""
    rng = np.random.default_rng(5)
    trees = [models.tree(rng, SHAPE, 12)]
    made = engine("llama")
    (some,) = made.choose(trees, CHOICES)
    (every,) = made.choose(trees, range(models.VOCABULARY))
    assert np.allclose(every.mass_R, 1, atol=1e-5)
    assert (some.mass_R < 0.9).all()
    assert np.array_equal(some.logprobs_RC, every.logprobs_RC[:, list(CHOICES)])


def test_models_are_not_changed_for_others() -> None:
    """Outside our passes the attention backend is the library's own."""
    model = models.model("llama")
    ids = torch.arange(3, 23)[None]
    before = model(input_ids=ids).logits
    PackedEngine(LmConfig(model="llama"), model=model)
    assert torch.allclose(model(input_ids=ids).logits, before, atol=1e-5)
    assert copy.deepcopy(model.config).model_type == "llama"
