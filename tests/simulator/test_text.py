"""The simulator's view of explanations and texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsim.explain.lexical import Rule, Rules, describe
from nlsim.explain.quote import quote
from nlsim.explain.reading import Reading
from nlsim.simulator.text import BASE, BEGIN, LEVELS, OTHERS, TEXT, SimulatorText, level
from nlsim.simulator.tokenizer import train_tokenizer

DOCUMENTS = ["The function returns the value of the class. Return a value, or raise an error.\n    x = f(x)\n"] * 20


@pytest.fixture(scope="module")
def text() -> SimulatorText:
    return SimulatorText(train_tokenizer(DOCUMENTS, 600))


def names(text: SimulatorText, ids: list[int]) -> list[str]:
    return [text._tokenizer.id_to_token(number) for number in ids]


@given(st.lists(st.text(max_size=6), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[])
def test_every_piece_is_read_at_a_token_of_its_own(pieces: list[str]) -> None:
    """Also a piece without text, such as the first bytes of a character."""
    made = SimulatorText(train_tokenizer(DOCUMENTS[:1], 400)) if not _CACHE else _CACHE[0]
    _CACHE.append(made)
    window = made.window(pieces)
    assert window.tokens.tolist() == [token for piece in pieces for token in made.piece(piece)]
    assert len(window.ends) == len(pieces)
    assert list(window.ends) == sorted(set(window.ends))
    assert window.ends[-1] == len(window.tokens) - 1


_CACHE: list[SimulatorText] = []


def test_a_quoted_token_reads_as_it_does_in_text(text: SimulatorText) -> None:
    for piece in (" return", "\n", "    ", "ing", " (", "\n\n    ", " “", "é"):
        assert text.explanation(quote(piece)) == text.piece(piece.replace("“", '"'))


def test_headings_stand_before_each_of_their_tokens(text: SimulatorText) -> None:
    ids = text.explanation("Always 7: “ the”, “ of”. Never: “ value”.")
    high, never = text.special[level("always", 7)], text.special[level("never", 1)]
    assert ids == [high, *text.piece(" the"), high, *text.piece(" of"), never, *text.piece(" value")]


def test_the_explainers_whole_language_is_understood(text: SimulatorText) -> None:
    """Every phrase that `describe` writes becomes special tokens: none is spelled out."""
    pieces = [b"<s>", b" the", b" of"]
    reading = Reading.of([[0, 1, 2]], [3], [0], pieces)  # type: ignore[arg-type]
    rule = Rule(1, 0.5, 4.0, 1.0, 10.0)
    rules = Rules(rule, [rule, rule._replace(token=2, frequency=0.0)], rule, [1], [2], [1], [2], 5.0)
    ids = text.explanation(describe(rules, reading))
    allowed = set(text.special.values()) | set(text.piece(" the")) | set(text.piece(" of"))
    assert set(ids) <= allowed
    found = names(text, ids)
    assert found[:2] == [BASE, level("commonly", 4)]
    assert OTHERS in found
    assert {"<|more start|>", "<|more after|>", "<|less after|>", "<|more near|>", "<|less near|>"} <= set(found)


def test_free_text_is_read_as_words(text: SimulatorText) -> None:
    ids = text.explanation("Tokens such as “ return”, and similar. Often found in code: “ x” there.")
    assert not set(ids) & {text.special[name] for name in LEVELS}
    assert ids[-len(text.piece(" there")) :] == text.piece(" there")


def test_prompts_start_with_the_explanation_and_end_before_the_text(text: SimulatorText) -> None:
    prefix = text.prefix("“ the”")
    assert names(text, prefix.tolist()) == [BEGIN, *names(text, text.piece(" the")), TEXT]
    window = text.window([" the", " of"])
    assert window.tokens.tolist() == text.piece(" the") + text.piece(" of")
    assert window.ends.tolist() == [len(text.piece(" the")) - 1, len(window.tokens) - 1]


def test_digits_are_single_tokens(text: SimulatorText) -> None:
    """Mistake 12: several digits in one token were read as one number. Mistake 32: the id of "1" was guessed."""
    assert names(text, text.digits) == list("0123456789")
    assert names(text, text.piece("2024")) == list("2024")
