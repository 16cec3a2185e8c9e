"""Documents to rows: nothing crosses a document, a split or a word."""

import numpy as np
import pytest
from corpus.tokenizers import SENTENCES, byte_level, sentencepiece_like
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsim.corpus.config import CorpusConfig, RowBudgets, SplitFractions
from nlsim.corpus.documents import Document
from nlsim.corpus.pieces import token_pieces
from nlsim.corpus.rows import Boundaries, Rows, build_rows, cut_rows
from nlsim.corpus.splits import Split, assign, unit_hash
from nlsim.errors import DataError
from nlsim.subject.tokenizer import encode

MANY = RowBudgets(train=999, explain=999, score=999, calibrate=999, evaluate=999)
EVEN = SplitFractions(train=1, explain=1, score=1, calibrate=1, evaluate=1)


def config(**settings: object) -> CorpusConfig:
    return CorpusConfig(**{"context": 12, "min_tokens": 2, "rows": MANY, "fractions": EVEN, **settings})


def corpus(count: int = 60, words: int = 25) -> list[Document]:
    rng = np.random.default_rng(0)
    vocabulary = " ".join(SENTENCES).split()
    return [Document(f"d{i}", f"{i} " + " ".join(rng.choice(vocabulary, words))) for i in range(count)]


def texts(rows: Rows) -> dict[tuple[str, int], str]:
    """(document name, start) → the row's text."""
    pieces = token_pieces(byte_level())
    return {
        (rows.names[rows.document[r]], int(rows.start[r])): pieces.text(rows.tokens[r, 1 : rows.length[r]]).text
        for r in range(len(rows.length))
    }


def test_rows_are_bos_and_consecutive_tokens_of_one_document() -> None:
    tokenizer, documents = byte_level(), corpus()
    rows = build_rows(documents, tokenizer, config())
    by_name = dict(zip([d.name for d in documents], encode(tokenizer, [d.text for d in documents]), strict=True))
    assert len(rows.length) > 100
    for r in range(len(rows.length)):
        name, length, start = rows.names[rows.document[r]], rows.length[r], rows.start[r]
        assert rows.tokens[r, 0] == tokenizer.bos_token_id
        assert np.array_equal(rows.tokens[r, 1:length], by_name[name][start : start + length - 1])
        assert (rows.tokens[r, length:] == 0).all()
        assert 3 <= length <= 12
    assert rows.document_tokens.tolist() == [len(by_name[name]) for name in rows.names]


def test_a_documents_rows_cover_it_once() -> None:
    """Mistake 26: no text is lost between documents or glued together across them."""
    documents = corpus()
    got = texts(build_rows(documents, byte_level(), config(min_tokens=2)))
    for document in documents:
        parts = [text for (name, _), text in sorted(got.items()) if name == document.name]
        assert document.text.startswith("".join(parts))
        assert len("".join(parts)) >= len(document.text) - 12  # at most one last token, too few for a row


@pytest.mark.parametrize("make", [byte_level, sentencepiece_like])
@settings(deadline=None, max_examples=80)
@given(
    words=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="▁"), min_size=1, max_size=6
        )
    ),
    room=st.integers(8, 40),
)
def test_a_row_never_ends_inside_a_word(make: object, words: list[str], room: int) -> None:
    tokenizer = make()  # type: ignore[operator]
    pieces = token_pieces(tokenizer)
    text = " ".join(words)
    (tokens,) = encode(tokenizer, [text])
    longest = max((len(encode(tokenizer, [f" {word}"])[0]) for word in words), default=0)
    if longest > room // 2:
        return  # a word of more than half a row may be cut; see the next test
    spans = cut_rows(tokens, Boundaries(pieces), room)
    assert [start for start, _ in spans] == [0, *(end for _, end in spans)][: len(spans)]
    assert not spans or spans[-1][1] == len(tokens)
    assert all(end - start <= room for start, end in spans)
    cut = "".join(pieces.text(tokens[start:end]).text + "\0" for start, end in spans)
    assert cut.replace("\0", "") == text
    assert [word for part in cut.split("\0") for word in part.split()] == text.split()


def test_a_text_without_spaces_is_cut_between_characters() -> None:
    tokenizer = byte_level()
    pieces = token_pieces(tokenizer)
    for text in ["汉字" * 40, "🦊" * 40, "x" * 200, "https://example.org/" + "a1b2/" * 40]:
        (tokens,) = encode(tokenizer, [text])
        spans = cut_rows(tokens, Boundaries(pieces), 17)
        parts = [pieces.text(tokens[start:end]).text for start, end in spans]
        assert "".join(parts) == text
        assert "�" not in "".join(parts)
    assert all(part.endswith("/") for part in parts)  # the address is cut at punctuation


def test_no_document_is_on_two_sides() -> None:
    """Mistake 23: what is evaluated shares no document with what explanations come from."""
    rows = build_rows(corpus(), byte_level(), config())
    for number, name in enumerate(rows.names):
        splits = set(rows.split[rows.document == number].tolist())
        assert splits == {rows.document_split[number]} == {assign(0, name, EVEN)}
    assert set(rows.split.tolist()) == set(Split)
    assert (np.diff(rows.split.astype(int)) >= 0).all()


def test_the_same_text_under_two_names_is_used_once() -> None:
    documents = corpus(20)
    copies = [Document(f"copy of {d.name}", d.text) for d in documents]
    rows = build_rows([*documents, *copies], byte_level(), config())
    assert not [name for name in rows.names if name.startswith("copy")]


def test_a_document_keeps_its_side_whatever_else_is_there() -> None:
    documents = corpus()
    whole = build_rows(documents, byte_level(), config())
    side = dict(zip(whole.names, whole.document_split.tolist(), strict=True))
    part = build_rows(documents[::-2], byte_level(), config())
    assert {
        name: int(split) for name, split in zip(part.names, part.document_split, strict=True)
    }.items() <= side.items()


def test_rows_do_not_depend_on_the_order_of_documents() -> None:
    documents = corpus()
    a, b = (build_rows(order, byte_level(), config()) for order in (documents, documents[::-1]))
    assert np.array_equal(a.tokens, b.tokens)


def test_rows_inside_a_split_are_shuffled_and_a_larger_budget_keeps_them() -> None:
    documents = corpus()
    whole = build_rows(documents, byte_level(), config())
    few = RowBudgets(train=7, explain=3, score=3, calibrate=3, evaluate=3)
    small = build_rows(documents, byte_level(), config(rows=few))
    for split in Split:
        kept = small.tokens[small.of(split)]
        assert len(kept) == (7 if split == Split.TRAIN else 3)
        assert np.array_equal(kept, whole.tokens[whole.of(split)[: len(kept)]])
    numbers = [int(whole.names[d][1:]) for d in whole.document[whole.of(Split.TRAIN)]]
    assert numbers != sorted(numbers)
    other = build_rows(documents, byte_level(), config(seed=1))
    assert not np.array_equal(other.tokens[:50], whole.tokens[:50])


def test_reading_stops_when_there_is_enough() -> None:
    read = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal read
        while True:
            yield Document(f"d{read}", f"{read} " + SENTENCES[read % 3])
            read += 1

    few = RowBudgets(train=20, explain=20, score=20, calibrate=20, evaluate=20)
    rows = build_rows(endless(), byte_level(), config(rows=few))
    assert np.bincount(rows.split).tolist() == [20] * 5
    assert len(set(rows.document.tolist())) > 40  # not only the first documents read
    assert read < 1000


def test_max_documents_is_the_most_that_is_read() -> None:
    rows = build_rows(corpus(), byte_level(), config(max_documents=30))
    assert max(int(name[1:]) for name in rows.names) == 29


def test_splits_without_a_budget_get_nothing() -> None:
    only = RowBudgets(train=0, explain=50, score=0, calibrate=0, evaluate=5)
    rows = build_rows(corpus(), byte_level(), config(rows=only))
    assert set(rows.split.tolist()) == {Split.EXPLAIN, Split.EVALUATE}


def test_an_empty_corpus_is_a_data_error() -> None:
    for documents in ([], [Document("a", ""), Document("b", "x")]):
        with pytest.raises(DataError, match="the corpus has no text"):
            build_rows(documents, byte_level(), config())


def test_too_few_documents_for_a_split_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r"no row for the split \w+: .*corpus.seed"):
        build_rows(corpus(2), byte_level(), config())


def test_fractions_decide_how_many_documents_a_split_gets() -> None:
    fractions = SplitFractions(train=6, explain=2, score=1, calibrate=0, evaluate=1)
    counts = np.bincount([assign(3, f"document {i}", fractions) for i in range(5000)], minlength=5) / 5000
    assert np.allclose(counts, [0.6, 0.2, 0.1, 0, 0.1], atol=0.03)


def test_the_hash_is_the_same_everywhere() -> None:
    """A constant: a change would move documents of published runs across splits."""
    assert unit_hash("split", 0, "modules/json") == 0.9051039055053246
    assert assign(0, "modules/json", SplitFractions()) == Split.EVALUATE
