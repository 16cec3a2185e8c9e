"""Text first or explanation first: the same pairs are asked about, and each answer is stored where it belongs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from byte_models import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from nlsim.errors import UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.packed import PackedEngine
from nlsim.lm.prompts import PromptTree, flatten, leaf
from nlsim.lm.templates import Message, Template
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.prompts import LastPrompts, Text, simulation_prompts
from nlsim.simulate.stage import fill
from nlsim.simulate.wording import EXAMPLES, WORDINGS, marked, question

TEXTS = [Text([" the", " cat", " sat"], [2]), Text(["x", " =", " 5"], [2]), Text([" in", " May"], [1])]
SHORT = ["cats", "months", "digits", "“ x”"]


@pytest.fixture(scope="module")
def engine() -> PackedEngine:
    """A random Llama with large weights, so that answers differ."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, max_position_embeddings=8192, **shape))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return PackedEngine(LmConfig(model="bytes"), model.eval().requires_grad_(False), byte_tokenizer())


def made(engine: Any, **settings: Any) -> LastPrompts:
    config = SimulateConfig.model_validate({"positions": "last", "shots": 1, **settings})
    prompts = simulation_prompts(config, LmConfig(), engine, TEXTS)
    assert isinstance(prompts, LastPrompts)
    return prompts


def test_prompts_that_begin_with_the_text(engine: Any) -> None:
    """One trie per window; every prompt is tokenized as if it had been written alone."""
    template, wording = Template(engine.tokenizer), WORDINGS["digit"]
    shot = EXAMPLES[0]
    before = [
        Message("system", wording.last),
        Message("user", question(shot.explanation, marked(shot.pieces, shot.target), text_first=True)),
        Message("assistant", wording.opening + wording.answer(shot.strengths[shot.target])),
    ]
    for text, tree in zip(TEXTS, made(engine).trees_of_windows(SHORT), strict=True):
        for explanation, (tokens, reads) in zip(SHORT, flatten(tree), strict=True):
            asked = Message("user", question(explanation, marked(text.pieces, text.reads[-1]), text_first=True))
            assert tokens.tolist() == template.encode(template.text([*before, asked], wording.opening)).tolist()
            assert reads.tolist() == [len(tokens) - 1]
    assert question("E", "T", text_first=True).index("T") < question("E", "T", text_first=True).index("E")


def test_answers_are_stored_where_they_belong(engine: Any) -> None:
    """Both orders fill [latents, reads]: each answer is that of its own prompt alone."""
    prompts = made(engine)
    alone: dict[bool, dict[tuple[int, int], np.ndarray]] = {True: {}, False: {}}
    for by_read, trees in ((True, prompts.trees_of_windows(SHORT)), (False, prompts.trees(SHORT))):
        kept = list(trees)
        logprobs_LRC = np.full((len(SHORT), len(TEXTS), 10), np.nan, np.float16)
        mass_LR = np.full((len(SHORT), len(TEXTS)), np.nan, np.float16)
        shares = list(fill(logprobs_LRC, mass_LR, engine.choose(kept, prompts.choices), by_read))
        assert shares[-1] == 1.0
        for i, tree in enumerate(kept):
            for j, (tokens, _) in enumerate(flatten(tree)):
                latent, read = (j, i) if by_read else (i, j)
                (answer,) = engine.choose([leaf(tokens)], prompts.choices)
                alone[by_read][latent, read] = answer.logprobs_RC[0]
                np.testing.assert_allclose(logprobs_LRC[latent, read], answer.logprobs_RC[0], atol=0.01)
                np.testing.assert_allclose(mass_LR[latent, read], answer.mass_R[0], rtol=0.01)
    assert any(not np.allclose(alone[True][key], alone[False][key]) for key in alone[True])  # other prompts


def computed(trees: Iterable[PromptTree]) -> int:
    """Tokens to compute when everything that prompts share is computed once, the instructions too."""
    prompts = [tokens for tree in trees for tokens, _ in flatten(tree)]
    return len({tokens[: end + 1].tobytes() for tokens in prompts for end in range(len(tokens))})


def test_auto_takes_what_costs_fewer_tokens(engine: Any) -> None:
    prompts = made(engine, order="auto")
    long = ["a much longer explanation than any of the texts that it is about, of many words"] * 3 + SHORT[:1]
    for explanations in (SHORT[:1], long):
        first, second = (computed(trees(explanations)) for trees in (prompts.trees, prompts.trees_of_windows))
        assert prompts.text_first(explanations) == (second < first)
    assert not made(engine).text_first(long)
    assert made(engine, order="text_first").text_first(long)
    assert not prompts.text_first([])


def test_what_cannot_begin_with_the_text(engine: Any) -> None:
    with pytest.raises(ValueError, match="text_first needs positions: last"):
        SimulateConfig.model_validate({"positions": "all", "order": "text_first"})
    config = SimulateConfig.model_validate({"positions": "last", "order": "text_first"})
    with pytest.raises(UsageError, match="reads the explanation first"):
        simulation_prompts(config, LmConfig(model="nlsim:simulator"), engine, TEXTS)
