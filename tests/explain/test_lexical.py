"""The lexical explainer finds what was planted and says it so that it can be read back."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsim.explain.lexical import FREQUENCIES, Rules, describe, find_rules, frequency_word, groups
from nlsim.explain.quote import quote, spans, visible
from nlsim.explain.reading import Reading

WORDS = [b"<s>", b" return", b" the", b" value", b" of", b"\n", b"    ", b" class", b" yield", b" zebra", b"ing"]
RETURN, THE, VALUE, OF, LINE, SPACES, CLASS, YIELD, ZEBRA, ING = range(1, 11)


def reading(rows: int = 200, context: int = 32, seed: int = 0) -> Reading:
    """Random text over ten tokens."""
    tokens = np.random.default_rng(seed).integers(1, 9, (rows, context))
    tokens[:, 0] = 0
    return Reading.of(tokens, np.full(rows, context), np.arange(rows) // 4, WORDS)


def explain(text: Reading, strength_P: np.ndarray, budget: int = 8) -> Rules:
    place = np.flatnonzero(strength_P)
    return find_rules(text, place, strength_P[place], 9.0, budget)


def test_tokens_are_named_with_their_frequency_and_strength() -> None:
    text = reading()
    rng = np.random.default_rng(1)
    strength = np.where(text.token_P == RETURN, 8.0, 0.0)
    strength += np.where((text.token_P == YIELD) & (rng.random(len(text.token_P)) < 0.3), 4.0, 0.0)
    rules = explain(text, strength)
    named = {rule.token: rule for rule in rules.tokens}
    assert [rule.token for rule in rules.tokens][:2] == [RETURN, YIELD]
    assert named[RETURN].frequency > 0.99
    assert named[RETURN].strength == pytest.approx(8, abs=0.1)
    assert named[YIELD].frequency == pytest.approx(0.3, abs=0.05)
    assert named[YIELD].strength == pytest.approx(4, abs=0.1)
    sentence = describe(rules, text)
    assert "Always 8: “ return”." in sentence
    assert "Often 4: “ yield”." in sentence


def test_a_chance_hit_weighs_less_than_a_proven_token() -> None:
    tokens = np.array([[0] + [VALUE] * 20 + [RETURN] * 10 + [ZEBRA]] * 1)
    text = Reading.of(tokens, np.array([32]), np.zeros(1), WORDS)
    strength = np.where((text.token_P == RETURN) | (text.token_P == ZEBRA), 9.0, 0.0)
    rules = explain(text, strength)
    named = {rule.token: rule for rule in rules.tokens}
    assert rules.tokens[0].token == RETURN
    assert named[ZEBRA].frequency < named[RETURN].frequency  # seen once against ten times


def test_what_a_neighbour_adds_is_said() -> None:
    text = reading(600)
    strength = np.where((text.token_P == RETURN) & (text.previous_P == THE), 9.0, 0.0)
    sentence = describe(explain(text, strength), text)
    assert "More after: “ the”" in sentence


def test_nothing_is_said_of_neighbours_that_play_no_part() -> None:
    text = reading(600)
    sentence = describe(explain(text, np.where(text.token_P == RETURN, 9.0, 0.0)), text)
    assert "after" not in sentence
    assert "near" not in sentence


def test_context_words_are_those_that_add_to_the_tokens() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 8, (800, 20))
    tokens[:, 0] = 0
    tokens[::2, 3] = ZEBRA
    text = Reading.of(tokens, np.full(800, 20), np.arange(800), WORDS)
    near_zebra = (text.row_P % 2 == 0) & (text.position_P > 4) & (text.position_P < 13)
    sentence = describe(explain(text, np.where((text.token_P == VALUE) & near_zebra, 7.0, 0.0)), text)
    assert "More near: “ zebra”" in sentence


def test_neither_windows_nor_neighbours_cross_rows() -> None:
    tokens = np.array([[0, RETURN, THE, VALUE], [0, ZEBRA, OF, CLASS]])
    text = Reading.of(tokens, np.array([4, 4]), np.array([0, 1]), WORDS, first_row=7)
    assert text.previous_P.tolist() == [0, RETURN, THE, 0, ZEBRA, OF]
    assert text.at_P.tolist() == [29, 30, 31, 33, 34, 35]
    places, words = text.near
    assert list(zip(places.tolist(), words.tolist(), strict=True)) == [(2, RETURN), (5, ZEBRA)]


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_any_latent_gets_a_sentence_within_the_budget(budget: int, seed: int) -> None:
    text = reading(20, 16)
    rng = np.random.default_rng(seed)
    strength = rng.gamma(1.0, 2.0, len(text.token_P)) * (rng.random(len(text.token_P)) < rng.random())
    strength[int(rng.integers(len(strength)))] = 5.0
    rules = explain(text, strength, budget)
    assert len(rules.tokens) <= budget
    assert len({rule.token for rule in rules.tokens}) == len(rules.tokens)
    sentence = describe(rules, text)
    assert sentence.startswith("Fires ")
    assert np.isfinite([rule.mean for rule in [*rules.tokens, rules.others, rules.base]]).all()
    listed = [rule for _, members in groups(rules.tokens) for rule in members]
    assert sorted(rule.token for rule in listed) == sorted(rule.token for rule in rules.tokens)


def test_the_table_predicts_better_than_the_base_rate() -> None:
    text = reading(300)
    rng = np.random.default_rng(2)
    mean_V = rng.gamma(0.5, 3.0, len(WORDS))
    strength = np.minimum(9, mean_V[text.token_P] * (rng.random(len(text.token_P)) < 0.5))
    rules = explain(text, strength)
    table = np.full(len(WORDS), rules.others.mean)
    for rule in rules.tokens:
        table[rule.token] = rule.mean
    error = ((strength - table[text.token_P]) ** 2).mean()
    assert error < 0.9 * strength.var()


@given(st.floats(0, 1))
def test_every_share_has_its_word(share: float) -> None:
    word = frequency_word(share)
    lower = [0.0, *(end for end, _ in FREQUENCIES)]
    place = [name for _, name in FREQUENCIES].index(word)
    assert lower[place] <= share < FREQUENCIES[place][0]


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6))
def test_quotations_can_be_told_from_prose(pieces: list[str]) -> None:
    text = "On " + ", ".join(quote(piece) for piece in pieces) + "."
    found = [span.text for span in spans(text) if span.quoted]
    assert found == [visible(piece).replace("“", '"').replace("”", '"') for piece in pieces]
    assert "".join(f"“{span.text}”" if span.quoted else span.text for span in spans(text)) == text


def test_what_cannot_be_seen_is_written_visibly() -> None:
    assert [visible(piece) for piece in ("\n", "    ", " a", "\t", "\n\n  ")] == ["⏎", "␣␣␣␣", " a", "⇥", "⏎⏎  "]
    assert re.fullmatch("“[^“”]*”", quote("say “hi”"))
