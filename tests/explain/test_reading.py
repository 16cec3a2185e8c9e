"""The explain split, read token by token."""

import numpy as np

from nlsim.explain.reading import NEAR, Reading

PIECES = [b"<s>", b" cat", b" dog", b"\n", b"x", b" \xff", b" bird"]


def reading() -> Reading:
    """Two rows, the second shorter: <s> cat dog cat \\n and <s> bird x."""
    tokens = np.array([[0, 1, 2, 1, 3], [0, 6, 4, 0, 0]])
    return Reading.of(tokens, np.array([5, 3]), np.array([4, 9]), PIECES, first_row=10)


def test_every_token_but_bos_and_padding_is_read_once() -> None:
    text = reading()
    assert text.token_P.tolist() == [1, 2, 1, 3, 6, 4]
    assert text.previous_P.tolist() == [0, 1, 2, 1, 0, 6]
    assert text.row_P.tolist() == [10, 10, 10, 10, 11, 11]
    assert text.document_P.tolist() == [4, 4, 4, 4, 9, 9]
    assert text.position_P.tolist() == [1, 2, 3, 4, 1, 2]
    assert text.at_P.tolist() == [51, 52, 53, 54, 56, 57]


def test_counts_are_those_of_the_tokens_read() -> None:
    text = reading()
    assert text.count_V.tolist() == [0, 2, 1, 1, 1, 0, 1]
    assert text.previous_count_V.tolist() == [2, 2, 1, 0, 0, 0, 1]
    assert text.count_V.sum() == text.previous_count_V.sum() == len(text.token_P)


def test_a_part_of_the_rows_reads_as_it_did() -> None:
    text = reading()
    part = text.select(text.row_P == 11)
    alone = Reading.of(np.array([[0, 6, 4]]), np.array([3]), np.array([9]), PIECES)
    assert part.token_P.tolist() == alone.token_P.tolist()
    assert part.previous_P.tolist() == alone.previous_P.tolist()
    assert part.count_V.tolist() == alone.count_V.tolist()
    assert part.at_P.tolist() == [56, 57]


def test_near_words_are_counted_once_per_place_and_no_further_back_than_promised() -> None:
    row = [0, 1, *[4] * (NEAR + 2), 1, 6, 1]
    text = Reading.of(np.array([row]), np.array([len(row)]), np.zeros(1), PIECES)
    place, word = text.near
    seen = {(int(p), int(w)) for p, w in zip(place, word, strict=True)}
    assert len(seen) == len(place), "once per place"
    expected = set()
    for p in range(len(row) - 1):  # place p is position p + 1; words need three letters
        for q in range(max(1, p + 1 - NEAR), p):
            if row[q] in (1, 2, 6):
                expected.add((p, row[q]))
    assert seen == expected
    assert text.near_count_V.tolist() == [sum(w == v for _, w in expected) for v in range(len(PIECES))]


def test_tokens_are_written_visibly_even_where_they_are_no_text() -> None:
    text = reading()
    assert [text.text(token) for token in (1, 3, 5)] == [" cat", "⏎", " \ufffd"]
