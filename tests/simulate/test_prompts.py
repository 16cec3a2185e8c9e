"""Simulation prompts: what stands in them, where answers are read, and that worked examples are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from byte_models import byte_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import count_reads

from nlsim.errors import UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.prompts import PromptTree, flatten
from nlsim.lm.templates import Message, Template
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.prompts import AllPrompts, LastPrompts, Text, simulation_prompts
from nlsim.simulate.wording import EXAMPLES, WORDINGS, marked, one_line, question, with_score

TEXTS = [
    Text([" the", " cat", " sat", ".", "\n"], [0, 1, 2, 3, 4]),
    Text(["x", "\t", "=", " 5", "    "], [1, 3]),
    Text([" <|im_end|>", " é", "", "0"], [3]),
]
EXPLANATIONS = ["Animals: “ cat”.", "Line ends and <|im_start|>system", "digits, as in “5”"]


class Reader:
    """An engine as far as prompts need one."""

    def __init__(self, chat: bool = False, merges: tuple[tuple[str, str], ...] = ()) -> None:
        self.tokenizer = byte_tokenizer(chat, merges)


def made(positions: str, chat: bool = False, prompt: str = "digit", shots: int = 3) -> tuple[Any, Any]:
    config = SimulateConfig.model_validate({"positions": positions, "prompt": prompt, "shots": shots})
    engine: Any = Reader(chat)
    return simulation_prompts(config, LmConfig(), engine, TEXTS), engine.tokenizer


def prompts_of(tree: PromptTree, tokenizer: Any) -> list[tuple[str, list[str]]]:
    """Every prompt of a trie, and what stands before each of its reads."""
    return [
        (tokenizer.decode(tokens.tolist()), [tokenizer.decode(tokens[: read + 1].tolist()) for read in reads])
        for tokens, reads in flatten(tree)
    ]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("prompt", ["digit", "binary"])
def test_last_prompts_are_the_whole_conversation(chat: bool, prompt: str) -> None:
    """One prompt per window, tokenized as if it had been written alone, read where the answer goes on."""
    prompts, tokenizer = made("last", chat, prompt)
    assert isinstance(prompts, LastPrompts)
    template, wording = Template(tokenizer), WORDINGS[prompt]
    for explanation, tree in zip(EXPLANATIONS, prompts.trees(EXPLANATIONS), strict=True):
        for text, (tokens, reads) in zip(TEXTS, flatten(tree), strict=True):
            turns = [Message("system", wording.last)]
            for shot in EXAMPLES[:3]:
                turns += [
                    Message("user", question(shot.explanation, marked(shot.pieces, shot.target))),
                    Message("assistant", wording.opening + wording.answer(shot.strengths[shot.target])),
                ]
            turns.append(Message("user", question(explanation, marked(text.pieces, text.reads[-1]))))
            np.testing.assert_array_equal(tokens, template.encode(template.text(turns, wording.opening)))
            assert reads.tolist() == [len(tokens) - 1]
    assert [tokenizer.decode([choice]) for choice in prompts.choices] == list(wording.answers)


def test_last_prompts_mark_the_read_token_and_show_nothing_after_it() -> None:
    prompts, tokenizer = made("last", shots=0)
    (tree,) = prompts.trees(["E"])
    shown = [prompt.rpartition("Text:\n")[2] for prompt, _ in prompts_of(tree, tokenizer)]
    assert shown[0] == " the cat sat.«\n»\nStrength: "
    assert shown[1] == "x\t=« 5»\nStrength: "


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("prompt", ["digit", "binary"])
def test_all_prompts_have_a_slot_after_every_token(chat: bool, prompt: str) -> None:
    prompts, tokenizer = made("all", chat, prompt)
    assert isinstance(prompts, AllPrompts)
    for explanation, tree in zip(EXPLANATIONS, prompts.trees(EXPLANATIONS), strict=True):
        found = prompts_of(tree, tokenizer)
        assert [len(before) for _, before in found] == [len(text.reads) for text in TEXTS]
        for text, (prompt_text, before) in zip(TEXTS, found, strict=True):
            asked = prompt_text.rpartition("token by token:")[2]
            body = asked.partition("<|im_start|>assistant\n")[2] if chat else asked[1:]
            lines = body.split("\n")
            assert len(lines) == text.reads[-1] + 1, "one line per token, nothing after the last read"
            for read, prefix in zip(text.reads, before, strict=True):
                assert prefix.endswith(f"{written(text.pieces[read])}\t")
                assert prefix.rpartition("token by token:")[2].count("\n") == read + 1 + chat
            assert all(line.endswith("\t?") for line in lines[:-1]), "no answer depends on another"
        whole = found[0][0].replace("< |", "<|")
        assert f"Feature: {explanation}\n\nText, token by token:" in whole
    assert [tokenizer.decode([choice]) for choice in prompts.choices] == list(WORDINGS[prompt].answers)


def written(piece: str) -> str:
    """A piece as it stands in a prompt: visible, and no special token."""
    return one_line(piece).replace("<|", "< |")


def test_worked_examples_have_their_answers_in_the_slots() -> None:
    prompts, tokenizer = made("all", shots=2)
    ((first, _), *_) = prompts_of(next(prompts.trees(["E"])), tokenizer)
    assert "The\t0\n plank\t0\n is\t0\n 3\t1\n metres\t9\n long\t1\n" in first
    assert " since\t8\n" in first
    assert EXAMPLES[2].explanation not in first


@pytest.mark.parametrize("positions", ["last", "all"])
def test_texts_cannot_end_a_turn(positions: str) -> None:
    prompts, tokenizer = made(positions, chat=True, shots=1)
    special = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    for tree in prompts.trees(EXPLANATIONS):
        for tokens, _ in flatten(tree):
            marks = [token for token in tokens.tolist() if token in special]
            assert marks == [*special * 4, special[0]], (
                "system, one worked example, the question, and the answer's start"
            )


@pytest.mark.parametrize("positions", ["last", "all"])
def test_windows_are_shared_between_explanations(positions: str) -> None:
    """Mistake 41: order and layout let a trie state each side once."""
    prompts, _ = made(positions)
    trees = list(prompts.trees(EXPLANATIONS))
    assert all(tree.branches == trees[0].branches for tree in trees)
    assert all(count_reads(tree) == sum(1 if positions == "last" else len(t.reads) for t in TEXTS) for tree in trees)


@pytest.mark.parametrize("positions", ["last", "all"])
def test_no_explanations_no_prompts(positions: str) -> None:
    """A shard all of whose latents lack an explanation has nothing to ask."""
    assert list(made(positions)[0].trees([])) == []


@given(st.lists(st.text(max_size=5), min_size=1, max_size=8), st.data())
@settings(max_examples=40, deadline=None)
def test_any_pieces_give_one_read_each_in_order(pieces: list[str], data: st.DataObject) -> None:
    reads = sorted(data.draw(st.sets(st.sampled_from(range(len(pieces))), min_size=1)))
    config = SimulateConfig(shots=0)
    template = Template(BYTES)
    (leaf,) = AllPrompts(config, template, [Text(pieces, reads)], WORDINGS["digit"])._leaves
    assert len(leaf.reads) == len(reads)
    ends = [template.tokenizer.decode(leaf.tokens[: read + 1].tolist()) for read in leaf.reads]
    assert all(end.endswith("\t") for end in ends)
    assert [end.count("\t?\n") for end in ends] == reads


BYTES = byte_tokenizer()


def test_a_tokenizer_that_splits_or_merges_answers_is_refused() -> None:
    """The answer must be one token after what is given; numbers of several digits are never read (mistake 12)."""
    engine: Any = Reader(merges=(("ĉ", "7"),))  # a tab and a 7 in one token
    with pytest.raises(UsageError, match=r"merges .* with an answer, so answers cannot be read from one token"):
        simulation_prompts(SimulateConfig(), LmConfig(), engine, TEXTS)


def test_worked_examples_are_right_and_have_the_form_of_the_question() -> None:
    """Mistake 15: worked examples held placeholders that were never filled in, had several answers where the question
    has one, and keys that contradicted their texts."""
    for example in EXAMPLES:
        assert len(example.pieces) == len(example.strengths)
        assert set(example.strengths) <= set(range(10))
        assert 0 <= example.target < len(example.pieces)
        assert max(example.strengths) >= 8, "the feature occurs"
        assert example.strengths.count(0) >= len(example.strengths) // 2, "and is silent at most tokens"
        text = marked(example.pieces, example.target)
        assert text.count("«") == text.count("»") == 1
        assert text.endswith(f"{example.pieces[example.target]}»")
    answers = {example.strengths[example.target] for example in EXAMPLES[:3]}
    assert 0 in answers, "a marked token at which the feature is silent, though it is in the text"
    assert max(answers) >= 8
    for wording in WORDINGS.values():
        assert all(wording.answer(strength) in wording.answers for strength in range(10))
        assert wording.answer(0) == "0"
        for text in (wording.last, wording.all, wording.opening, *(e.explanation for e in EXAMPLES)):
            assert not set("{}%[]") & set(text)
    prompts, tokenizer = made("last", chat=True)
    ((prompt, _), *_) = prompts_of(next(prompts.trees(["E"])), tokenizer)
    users = [turn.partition("<|im_end|>")[0] for turn in prompt.split("<|im_start|>user\n")[1:]]
    assert len(users) == 4
    assert all(turn.startswith("Feature: ") and turn.count("\n\nText:\n") == 1 for turn in users)
    assistants = [turn.partition("<|im_end|>")[0] for turn in prompt.split("<|im_start|>assistant\n")[1:]]
    assert all(turn.startswith("Strength: ") for turn in assistants)
    assert [len(turn) for turn in assistants[:-1]] == [len("Strength: ") + 1] * 3


@pytest.mark.parametrize("positions", ["last", "all"])
def test_scores_are_shown_on_a_line_of_their_own_and_in_the_worked_examples(positions: str) -> None:
    """Mistake 15: the score slot is filled with a number everywhere, with a separator and two decimals."""
    config = SimulateConfig.model_validate({"positions": positions, "show_score": "detection", "shots": 2})
    prompts = simulation_prompts(config, LmConfig(), Reader(), TEXTS)
    (tree,) = prompts.trees([with_score("Animals", 0.8765)])
    whole = prompts_of(tree, byte_tokenizer(False, ()))[0][0]
    assert "Animals\nScore of the description: 0.88\n" in whole
    assert whole.count("Score of the description: ") == 3
    assert "between 0.5 (no better than chance) and 1" in whole
    assert with_score("A", None) == with_score("A", float("nan")) == "A\nScore of the description: unknown"
