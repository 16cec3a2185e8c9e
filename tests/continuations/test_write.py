"""Texts written in rounds are those written token by token."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from nlsim.continuations.conditions import CLEAN, Condition
from nlsim.continuations.patched import Choice, Steps
from nlsim.continuations.write import Draft, Judged, clean_text, first_difference, write
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject

Ints = npt.NDArray[np.int64]
END, LONGEST, VOCABULARY = 0, 20, 40
PATCHED, OTHER = Condition("coder"), Condition("none")


class Imaginary:
    """Models that are functions of the text so far: patched ones differ from the clean one now and then."""

    def __init__(self, seed: int, often: float) -> None:
        self.seed, self.often, self.rounds = seed, often, 0

    def next(self, condition: Condition, tokens: Sequence[int]) -> int:
        clean = np.random.default_rng([self.seed, *tokens])
        token = int(clean.integers(VOCABULARY))
        if condition == CLEAN or clean.random() > self.often:
            return token
        return int(np.random.default_rng([self.seed, condition == OTHER, *tokens]).integers(VOCABULARY))

    def one_by_one(self, condition: Condition, prompt: Ints) -> list[int]:
        tokens = prompt.tolist()
        while not self.ended(np.array(tokens)):
            tokens.append(self.next(condition, tokens))
        return cast("list[int]", tokens)

    def ended(self, tokens: Ints) -> bool:
        return len(tokens) >= LONGEST or int(tokens[-1]) == END

    def __call__(self, beginnings: Sequence[Ints]) -> list[Ints]:
        return [np.array(self.one_by_one(CLEAN, tokens)) for tokens in beginnings]

    def judge(self, texts: Mapping[Condition, Ints]) -> dict[Condition, Judged]:
        self.rounds += 1
        found = {}
        for condition, tokens in texts.items():
            chosen = np.array([self.next(condition, tokens[: s + 1].tolist()) for s in range(len(tokens) - 1)])
            none = np.zeros((len(chosen), 1), np.float32)
            found[condition] = Judged(
                tokens, none, None, {condition: Steps(none[:, 0], chosen, none[:, 0], none, none)}
            )
        return found


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.floats(0, 1), st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=5))
def test_rounds_give_what_one_token_after_the_other_gives(seed: int, often: float, prompt: list[int]) -> None:
    models, start = Imaginary(seed, often), np.array(prompt)
    clean = clean_text(start, models.judge, cast("Draft", models))
    assert clean.tolist() == models.one_by_one(CLEAN, start)
    models.rounds = 0
    first = models.judge({PATCHED: clean, OTHER: clean})
    written = write(first, len(start), models.judge, cast("Draft", models))
    for condition, judged in written.items():
        assert judged.tokens.tolist() == models.one_by_one(condition, start)
        assert {len(column) for column in judged.steps[condition]} == {len(judged.tokens) - 1}
    assert models.rounds <= LONGEST
    if often == 0:
        assert models.rounds == 1


def test_first_difference() -> None:
    tokens, chosen = np.array([9, 1, 2, 3]), np.array([7, 2, 5])
    assert first_difference(tokens, chosen, 1) == 1
    assert first_difference(tokens, chosen, 2) == 3
    assert first_difference(tokens[:3], chosen[:2], 2) is None


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
    return Subject(model, SubjectConfig(model="made here", device="cpu"))


def plain(subject: Subject, choice: Choice, tokens: list[int], longest: int, special: frozenset[int]) -> list[int]:
    tokens = list(tokens)
    while len(tokens) < longest and tokens[-1] not in special:
        logits_V = subject.model(torch.tensor([tokens])).logits[0, -1].detach().numpy()
        tokens.append(int(np.argmax(logits_V + choice.noise(len(tokens) - 1, VOCABULARY))))
    return tokens


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_drafts_are_the_clean_models_own_continuations(subject: Subject, temperature: float) -> None:
    choice, special = Choice(temperature, (5, 1)), frozenset({3, 4, 7})
    draft = Draft(subject, choice, 16, special)
    beginnings = [[1, 2, 5, 6, 8], [1, 9], [1, 30, 31], [1, 2, 7]]
    written = draft([np.array(tokens) for tokens in beginnings])
    assert [tokens.tolist() for tokens in written] == [plain(subject, choice, b, 16, special) for b in beginnings]
    assert draft([]) == []


def test_samples_are_reproducible_and_follow_the_distribution() -> None:
    choice = Choice(0.7, (1,))
    np.testing.assert_array_equal(choice.noise(4, 10), Choice(0.7, (1,)).noise(4, 10))
    assert (choice.noise(4, 10) != choice.noise(5, 10)).any()
    logits = np.array([0.0, 1.0, 2.0])
    counts = np.bincount([int(np.argmax(logits + choice.noise(step, 3))) for step in range(4000)], minlength=3)
    expected = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
    np.testing.assert_allclose(counts / 4000, expected, atol=0.03)
