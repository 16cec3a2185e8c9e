"""The bytes of tokens and the text of rows."""

from pathlib import Path

import numpy as np
import pytest
from corpus.tokenizers import SENTENCES, byte_level, sentencepiece_like
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from nlsim.corpus.pieces import Pieces, byte_alphabet, token_pieces
from nlsim.errors import UsageError
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects
from nlsim.subject.tokenizer import bos_token, encode

TOKENIZERS = {"byte-level": byte_level, "sentencepiece": sentencepiece_like}


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_the_pieces_of_a_text_are_its_bytes(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]()
    pieces = token_pieces(tokenizer)
    if name == "sentencepiece":
        text = text.replace("▁", "_")  # the form itself cannot tell this letter from a space
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    (tokens,) = encode(tokenizer, [text])
    assert b"".join(pieces.bytes[token] for token in tokens) == data
    row = pieces.text(tokens)
    assert row.text == text
    assert "".join(pieces.strings(tokens)) == text
    assert [row.text[a:b] for a, b in zip(row.start, row.end, strict=True)] == pieces.strings(tokens)
    assert row.start.tolist() == [0, *row.end.tolist()][: len(tokens)]


@given(st.lists(st.integers(0, 399), max_size=30))
def test_any_tokens_have_a_text_that_their_spans_cover(tokens: list[int]) -> None:
    """Also cut inside a character: what cannot be decoded shows as one or more U+FFFD."""
    pieces = token_pieces(byte_level())
    row = pieces.text(tokens)
    assert row.text == b"".join(pieces.bytes[t] for t in tokens).decode("utf-8", "replace")
    assert len(row.start) == len(row.end) == len(tokens)
    assert (row.start <= row.end).all()
    assert (row.end[-1] if tokens else 0) == len(row.text)


def test_a_character_belongs_to_the_token_that_completes_it() -> None:
    pieces = Pieces([b"a", b"\xf0\x9f", b"\xa6", b"\x8a!", b"\n"])
    row = pieces.text([0, 1, 2, 3, 4])
    assert row.text == "a🦊!\n"
    assert row.start.tolist() == [0, 1, 1, 1, 3]
    assert row.end.tolist() == [1, 1, 1, 3, 4]
    assert pieces.strings([0, 1, 2]) == ["a", "", "�"]


def test_known_pieces(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = token_pieces(tokenizer)
    assert len(pieces) == len(tokenizer)
    spelled = {tokenizer.convert_ids_to_tokens(i): piece for i, piece in enumerate(pieces.bytes)}
    if "<0x0A>" in spelled:
        assert spelled["<0x0A>"] == b"\n"
        assert spelled["▁the"] == b" the"
        assert spelled["<bos>"] == b"<bos>"
    else:
        assert spelled["Ġ"] == b" "
        assert spelled["Ċ"] == b"\n"
        assert spelled["   "] == b"   "
        assert spelled["<|end|>"] == b"<|end|>"
    assert pieces.special == set(tokenizer.all_special_ids)


def test_the_alphabet_has_a_letter_for_every_byte() -> None:
    assert sorted(byte_alphabet()) == list(range(256))
    assert len(set(byte_alphabet().values())) == 256
    assert byte_alphabet()[ord(" ")] == "Ġ"


def test_the_spelling_of_a_special_token_is_ordinary_text(tokenizer: PreTrainedTokenizerFast) -> None:
    text = f"before {tokenizer.eos_token} after"
    (tokens,) = encode(tokenizer, [text])
    assert not set(tokens.tolist()) & set(tokenizer.all_special_ids)
    assert token_pieces(tokenizer).text(tokens).text == text


def test_pieces_are_read_back_from_their_table(tmp_path: Path) -> None:
    pieces = token_pieces(byte_level())
    artifact = Artifact(open_objects(str(tmp_path)), "tokens", "0" * 16, 1)
    writer = artifact.begin(0)
    writer.table("pieces", pieces.table())
    writer.commit()
    again = Pieces.of(artifact)
    assert again.bytes == pieces.bytes
    assert again.special == pieces.special


def test_rows_begin_with_bos_else_eos_else_padding() -> None:
    backend = byte_level().backend_tokenizer
    for names, want in [
        ({"bos_token": "a", "eos_token": "b"}, "a"),
        ({"eos_token": "b", "pad_token": "c"}, "b"),
        ({"pad_token": "c"}, "c"),
    ]:
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
        assert bos_token(tokenizer) == backend.token_to_id(want)
    with pytest.raises(UsageError, match="no BOS"):
        bos_token(PreTrainedTokenizerFast(tokenizer_object=backend))


def test_another_kind_of_tokenizer_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(UsageError, match="cannot tell the bytes"):
        token_pieces(PreTrainedTokenizerFast(tokenizer_object=words))


def test_encoding_does_not_depend_on_the_texts_beside(tokenizer: PreTrainedTokenizerFast) -> None:
    together = encode(tokenizer, SENTENCES)
    for text, tokens in zip(SENTENCES, together, strict=True):
        assert np.array_equal(encode(tokenizer, [text])[0], tokens)
