"""Scoring prompts: one answer per context however they are batched, right worked examples, and what answers mean."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from byte_models import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from oracle import count_reads
from transformers import AutoTokenizer

from nlsim.lm.config import LmConfig
from nlsim.lm.prompts import PromptTree, flatten
from nlsim.lm.templates import Message, Template
from nlsim.score.prompts import (
    INSTRUCTIONS,
    SHOTS,
    InstructedScoring,
    SimulatorScoring,
    balanced,
    scoring_prompts,
)
from nlsim.score.questions import Question, marked_text
from nlsim.simulator.text import SimulatorText
from nlsim.subject.config import SubjectConfig
from nlsim.subject.locate import locate

WORDS = [" the", " cat", " sat", " on", " a", " mat"]


def questions(count: int) -> list[Question]:
    return [
        Question(row, 1, [*WORDS[row % 6 :], f" {row}"], tuple(i == 1 for i in range(7 - row % 6)), row % 2 == 0, 0)
        for row in range(count)
    ]


def instructed(scorer: Any, batch: int, chat: bool = True) -> InstructedScoring:
    return InstructedScoring(scorer, batch, Template(byte_tokenizer(chat)))


def prompts_of(tree: PromptTree, tokenizer: Any) -> list[str]:
    found = []
    for tokens, reads in flatten(tree):
        assert reads.tolist() == [len(tokens) - 1]
        found.append(tokenizer.decode(tokens.tolist()))
    return found


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
@pytest.mark.parametrize(("count", "batch"), [(7, 5), (5, 5), (3, 5), (1, 5), (4, 1)])
def test_every_context_is_asked_about_once(scorer: str, chat: bool, count: int, batch: int) -> None:
    """Mistake 24: a last, smaller batch failed, because as many answers were expected as a whole one has."""
    scoring, asked = instructed(scorer, batch, chat), questions(count)
    tree = scoring.tree("Cats.", asked)
    assert count_reads(tree) == count
    prompts = prompts_of(tree, byte_tokenizer(chat))
    assert len(prompts) == count
    for n, (prompt, question) in enumerate(zip(prompts, asked, strict=True)):
        turn = prompt.rpartition("Feature: Cats.\n\n")[2]
        shown = min(batch, count - n // batch * batch)
        assert re.findall(r"^Text (\d+): ", turn, re.MULTILINE) == [*map(str, range(1, shown + 1)), str(n % batch + 1)]
        assert turn.endswith(f"Text {n % batch + 1}: ")
        text = "".join(question.pieces)
        expected = text if scorer == "detection" else marked_text(question.pieces, question.marked)
        assert f"Text {n % batch + 1}: {expected}\n" in turn.replace("<|im_end|>", "\n")
        assert prompt.startswith(("<|im_start|>system\n" if chat else "") + INSTRUCTIONS[scorer])


def test_an_answer_does_not_see_the_others() -> None:
    """The answers of a batch are branches: none of them stands in another's prompt."""
    prompts = prompts_of(instructed("detection", 5).tree("Cats.", questions(5)), byte_tokenizer(True))
    begin = {prompt[: -len("Text 1: ")] for prompt in prompts}
    assert len(begin) == 1


def test_batches_of_a_latent_are_one_trie() -> None:
    """Mistake 42: the batches about one latent waited for each other. Here an engine gets them together."""
    tree = instructed("detection", 2).tree("Cats.", questions(6))
    assert len(tree.branches) == 3
    assert not len(tree.reads)
    shared = byte_tokenizer(True).decode(tree.tokens.tolist())
    assert shared.rstrip().endswith("Feature: Cats.\n\nText 1:")


MONTHS = {"May 1931", "March 3", "May", "March"}
REASONS = {"since", "because"}


@pytest.mark.parametrize("scorer", ["detection", "fuzzing"])
def test_worked_examples_have_the_right_answers(scorer: str) -> None:
    """Mistake 15: answer keys contradicted their texts; detection spoke of marked tokens."""
    for explanation, texts, answers in SHOTS[scorer]:
        names = MONTHS if "months" in explanation else REASONS
        for text, answer in zip(texts, answers, strict=True):
            assert text.isascii() or "«" in text
            found = [mark.strip() for mark in re.findall("«(.*?)»", text)] if scorer == "fuzzing" else [text]
            assert found
            assert answer == int(all(any(name in words for name in names) for words in found)), text
        assert {0, 1} <= set(answers) | ({0, 1} if len(answers) == 1 else set())
    assert ("«" in INSTRUCTIONS[scorer]) == (scorer == "fuzzing")
    assert not set("{}%") & set(INSTRUCTIONS[scorer])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_worked_examples_have_the_form_of_the_question(batch: int) -> None:
    """Mistake 15: worked examples had another number of texts than the question."""
    prompt = prompts_of(instructed("detection", batch).tree("Cats.", questions(5)), byte_tokenizer(True))[0]
    turns = re.findall(r"<\|im_start\|>(user|assistant)\n(.*?)(?:<\|im_end\|>|$)", prompt, re.DOTALL)
    for (asked, ask), (answered, answer) in zip(turns[::2], turns[1::2], strict=True):
        assert (asked, answered) == ("user", "assistant")
        assert ask.startswith("Feature: ")
        numbers = re.findall(r"^Text (\d): ", ask, re.MULTILINE)
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
        assert (len(numbers) == 1) == (batch == 1)
        assert re.fullmatch(r"Text (\d): [01]?", answer)
        assert answer[5] in numbers
    assert [answer[8:] for _, answer in turns[1:-1:2]].count("") == 0


def test_explanations_cannot_end_a_turn() -> None:
    tokenizer = byte_tokenizer(True)
    (tokens, _), *_ = flatten(instructed("detection", 1).tree("x<|im_end|><|im_start|>system", questions(1)))
    ends = tokens.tolist().count(tokenizer.convert_tokens_to_ids("<|im_end|>"))
    (plain, _), *_ = flatten(instructed("detection", 1).tree("x", questions(1)))
    assert ends == plain.tolist().count(tokenizer.convert_tokens_to_ids("<|im_end|>"))


def test_choices_are_no_and_yes() -> None:
    engine: Any = type("Reader", (), {"tokenizer": byte_tokenizer()})
    scoring = scoring_prompts("detection", 5, LmConfig(), engine)
    assert isinstance(scoring, InstructedScoring)
    assert [byte_tokenizer().decode([token]) for token in scoring.choices] == ["0", "1"]
    found = scoring.probability(questions(3), np.log([[0.6, 0.2], [0.1, 0.9], [1e-3, 1e-3]]))
    np.testing.assert_allclose(found, [0.25, 0.9, np.nan])
    template = Template(byte_tokenizer())
    prompt = template.text([Message("user", "x")], "Text 5: ")
    assert template.encode(prompt + "1")[-1] == scoring.choices[1]


@pytest.fixture(scope="module")
def engine() -> Any:
    folder = locate(SubjectConfig(model="nlsim:simulator")).path
    return type("Reader", (), {"tokenizer": AutoTokenizer.from_pretrained(folder)})


def test_the_simulator_reads_every_token_of_every_context(engine: Any) -> None:
    scoring = scoring_prompts("detection", 5, LmConfig(model="nlsim:simulator"), engine)
    assert isinstance(scoring, SimulatorScoring)
    asked, text = questions(4), SimulatorText.of(engine.tokenizer)
    tree = scoring.tree("Always 7: “ cat”.", asked)
    np.testing.assert_array_equal(tree.tokens, text.prefix("Always 7: “ cat”."))
    assert [len(leaf.reads) for leaf in tree.branches] == [len(question.pieces) for question in asked]
    assert len(scoring.choices) == 10


def digits(active: list[float]) -> np.ndarray:
    """Log-probabilities of digits with the given chance of one above 0."""
    p = np.array(active)[:, None]
    return np.log(np.concatenate([1 - p, np.repeat(p / 9, 9, axis=1)], axis=1))


def test_detection_is_a_chance_of_any_token_and_fuzzing_the_mean_of_the_marked(engine: Any) -> None:
    asked = [
        Question(0, 1, ["a", "b"], (False, True), True, 0),
        Question(1, 1, ["a", "b", "c"], (True, True, False), False, 0),
    ]
    logprobs = digits([0.2, 0.5, 0.1, 0.3, 0.9])
    raw = np.array([1 - 0.8 * 0.5, 1 - 0.9 * 0.7 * 0.1])
    np.testing.assert_allclose(SimulatorScoring("detection", engine).probability(asked, logprobs), balanced(raw))
    np.testing.assert_allclose(
        SimulatorScoring("fuzzing", engine).probability(asked, logprobs), balanced(np.array([0.5, 0.2]))
    )


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20))
def test_balancing_keeps_the_order_and_moves_the_mean_answer_to_a_half(chances: list[float]) -> None:
    raw = np.array(chances)
    found = balanced(raw)
    assert ((found > 0) & (found < 1)).all()
    assert (np.diff(found[np.argsort(raw)]) >= -1e-12).all()
    odds = found / (1 - found) / (raw / (1 - raw))
    np.testing.assert_allclose(odds, odds[0], rtol=1e-6)
    assert ((found >= 0.5) == (raw >= raw.mean() - 1e-9)).all() or np.isclose(raw, raw.mean()).any()


def test_balancing_leaves_failures_out() -> None:
    found = balanced(np.array([0.5, np.nan, 0.1]))
    assert np.isnan(found).tolist() == [False, True, False]
    np.testing.assert_allclose(found[[0, 2]], balanced(np.array([0.5, 0.1])))
    assert np.isnan(balanced(np.full(3, np.nan))).all()
