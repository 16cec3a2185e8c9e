"""When memory runs out, work is halved and goes on; answers stay the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lm_models as models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsim.errors import UsageError
from nlsim.lm import packed
from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Sampling
from nlsim.lm.packed import PackedEngine
from nlsim.lm.plain import TransformersEngine
from nlsim.lm.prompts import PromptTree

CHOICES = range(10, 20)
FULL = torch.OutOfMemoryError("CUDA out of memory")
NUMBERS = SimpleNamespace(pad_token_id=None, eos_token_id=2, decode=lambda ids, **_: " ".join(map(str, ids)))


def engine(family: str = "llama", batch_tokens: int = 200) -> PackedEngine:
    config = LmConfig(model=family, batch_tokens=batch_tokens)
    return PackedEngine(config, model=models.model(family), tokenizer=NUMBERS)


def answers(engine: PackedEngine | TransformersEngine, trees: list[PromptTree]) -> np.ndarray:
    return np.concatenate([choices.logprobs_RC for choices in engine.choose(trees, CHOICES)])


def fail_above(engine: PackedEngine, rows: int, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make passes of more than `rows` rows run out of memory: after the layers, in the head, or when keys are kept."""
    size = 0
    hidden, choices, commit = engine.backbone.hidden, engine.head.choices, packed.Path.commit

    def layers(trie: Any) -> Any:
        nonlocal size
        size = trie.rows
        found = hidden(trie)
        if place == "layers" and size > rows:
            raise FULL
        return found

    def head(*args: Any) -> Any:
        found = choices(*args)
        if place == "head" and size > rows:
            raise FULL
        return found

    def keep(path: Any, plan: Any) -> None:
        if place == "path" and size > rows:
            path._reserve(0, 1000, *path._staged[0][1:]) if path._staged else None
            raise FULL
        commit(path, plan)

    monkeypatch.setattr(engine.backbone, "hidden", layers)
    monkeypatch.setattr(engine.head, "choices", head)
    monkeypatch.setattr(packed.Path, "commit", keep)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), rows=st.integers(3, 40), place=st.sampled_from(["layers", "head", "path"]))
def test_whatever_is_cut_the_answers_stay(seed: int, rows: int, place: str) -> None:
    """Batches are halved, and so are single pieces longer than fits; nothing of the path is lost on the way."""
    rng = np.random.default_rng(seed)
    trees = [models.tree(rng, [[[], []], [], [[], [[], []]]], 30) for _ in range(3)]
    made = engine()
    with pytest.MonkeyPatch.context() as patch:
        fail_above(made, rows, place, patch)
        found = answers(made, trees)
    exact = answers(TransformersEngine(LmConfig(model="m"), model=models.model("llama")), trees)
    assert np.abs(found - exact).max() < 5e-5


def test_later_batches_are_as_small(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    made = engine()
    fail_above(made, 50, "layers", monkeypatch)
    answers(made, [models.tree(rng, [[]] * 8, 12) for _ in range(8)])
    assert made.batch_tokens <= 50


def test_not_even_one_token_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine()
    fail_above(made, 0, "layers", monkeypatch)
    with pytest.raises(UsageError, match="no memory"):
        answers(made, [models.tree(np.random.default_rng(0), [[], []])])


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine()
    monkeypatch.setattr(made.head, "choices", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent"):
        answers(made, [models.tree(np.random.default_rng(0), [[], []])])


@pytest.mark.parametrize("most", [1, 3])
def test_writing_in_smaller_batches(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, models.VOCABULARY, size=n) for n in rng.integers(2, 12, size=9)]
    expected = engine(batch_tokens=10_000).generate(prompts, Sampling(4))
    made = engine(batch_tokens=10_000)
    generate, sizes = made.model.generate, []

    def limited(ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(ids))
        if len(ids) > most:
            raise FULL
        return generate(ids, **options)

    monkeypatch.setattr(made.model, "generate", limited)
    assert made.generate(prompts, Sampling(4)) == expected
    assert sizes == sorted(sizes, reverse=True)  # never larger again
    monkeypatch.setattr(made.model, "generate", lambda *_, **__: (_ for _ in ()).throw(FULL))
    with pytest.raises(UsageError, match="no memory"):
        made.generate(prompts[:1], Sampling(4))


def test_a_closed_engine_holds_no_model() -> None:
    for made in (engine(), TransformersEngine(LmConfig(model="m"), model=models.model("llama"), tokenizer=NUMBERS)):
        made.close()
        assert not any(isinstance(value, torch.nn.Module) for value in vars(made).values())
