"""Tries of prompts: nothing is lost or reordered by sharing, and tokens are those of the whole text."""

from __future__ import annotations

import lm_models as models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import count_reads
from tokenizers import Tokenizer
from tokenizers.models import BPE

from nlsim.errors import UsageError
from nlsim.lm.cost import Shape, Work, alone_work, explanation_first, shape_of, shared_work
from nlsim.lm.prompts import PromptTree, flatten, from_prompts, grid, leaf

prompts = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=6)


@given(prompts)
def test_from_prompts_keeps_every_prompt(ids: list[list[int]]) -> None:
    tree = from_prompts([np.asarray(prompt) for prompt in ids])
    found = list(flatten(tree))
    assert [tokens.tolist() for tokens, _ in found] == ids
    assert [reads.tolist() for _, reads in found] == [[len(prompt) - 1] for prompt in ids]
    assert count_reads(tree) == len(ids)
    longest = min(len(prompt) for prompt in ids) - 1
    assert len(tree.tokens) == longest or len({prompt[len(tree.tokens)] for prompt in ids}) > 1


def test_reads_are_checked() -> None:
    for reads in ([3], [-1], [1, 1], [1, 0]):
        with pytest.raises(ValueError, match="reads"):
            PromptTree(np.arange(3), np.asarray(reads))


def merging() -> Tokenizer:
    """A tokenizer that merges a colon with the letter behind it, and a blank with an `a`."""
    letters = {letter: i for i, letter in enumerate("abcxyz: \n0123456789[")}
    merges = [(":", "a"), (" ", "a")]
    return Tokenizer(BPE({**letters, ":a": 50, " a": 51}, merges))


def encode(text: str) -> np.ndarray:
    return np.asarray(merging().encode(text).ids)


def test_grid_equals_whole_texts() -> None:
    """The seam is where the tokens allow it, not where the strings were joined."""
    prefixes = ["xy: ", "xyz: ", "x: "]
    for suffixes in (["ab[", "ac[", "a["], ["ab[", "bc["], ["cab["]):
        made = grid(encode, prefixes, suffixes)
        for prefix, tree in zip(prefixes, made.trees(), strict=True):
            for suffix, (tokens, reads) in zip(suffixes, flatten(tree), strict=True):
                assert tokens.tolist() == encode(prefix + suffix).tolist()
                assert reads.tolist() == [len(tokens) - 1]
        trees = list(made.trees())
        assert all(tree.branches is trees[0].branches for tree in trees)


def test_grid_refuses_a_seam_that_depends_on_both_sides() -> None:
    with pytest.raises(UsageError, match="merges"):
        grid(encode, ["x:", "x", "y"], ["ab[", "bc[", "a["])


@settings(max_examples=30)
@given(st.integers(0, 50))
def test_work_counts_what_is_done(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = models.tree(rng, [[[], []], [], [[]]], 5)
    alone = list(flatten(tree))
    assert alone_work([tree]).tokens == sum(len(tokens) for tokens, _ in alone)
    assert alone_work([tree]).pairs == sum(len(tokens) * (len(tokens) + 1) // 2 for tokens, _ in alone)
    distinct = {tuple(tokens[: i + 1]) for tokens, _ in alone for i in range(len(tokens))}
    found = shared_work([tree])
    assert found.reads == count_reads(tree)
    assert found.tokens >= len(distinct)  # branches that happen to begin alike are not joined
    assert found.pairs <= alone_work([tree]).pairs


def test_one_prompt_costs_the_same_either_way() -> None:
    tree = leaf(np.arange(9))
    assert shared_work([tree]) == alone_work([tree]) == Work(9, 45, 1)


def test_flops_of_a_model() -> None:
    """Against the count of the published 8B configuration: 0.67 TFLOP in products, 0.019 in prefix attention."""
    shape = Shape(parameters=6_979_321_856, layers=32, width=4096, hidden=4096, vocabulary=128256)
    products = shape.flops(Work(48, 0, 0))
    attention = shape.flops(Work(0, 48 * 750, 0))
    assert products == pytest.approx(0.670e12, rel=0.01)
    assert attention == pytest.approx(18.9e9, rel=0.01)
    model = models.model("llama")
    per_layer = 48 * 48 * 2 + 2 * 48 * 24 + 3 * 48 * 64
    assert shape_of(model) == Shape(3 * per_layer, 3, 48, 48, models.VOCABULARY)


def test_order_of_explanation_and_text() -> None:
    assert explanation_first(explanations=1000, texts=1000, explanation=36, text=36, tail=12)
    assert not explanation_first(explanations=1000, texts=1000, explanation=20, text=60)
    assert explanation_first(explanations=10, texts=1000, explanation=30, text=30)
    assert not explanation_first(explanations=1000, texts=10, explanation=30, text=30)
