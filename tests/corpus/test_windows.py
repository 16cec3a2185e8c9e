"""Evaluation windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nlsim.corpus.windows import windows

LENGTHS = st.lists(st.integers(3, 80), min_size=1, max_size=20)


@given(LENGTHS, st.integers(0, 9), st.none() | st.integers(2, 40))
def test_a_last_window_ends_at_its_target_and_never_shows_bos(
    lengths: list[int], seed: int, length: int | None
) -> None:
    w = windows("last", range(len(lengths)), lengths, seed, length)
    assert (w.start >= 1).all()
    assert (w.first >= w.start).all()
    assert (w.stop == w.first + 1).all()
    assert (w.stop < np.array(lengths)).all()  # the next token, whose loss is measured, is in the row
    shown = w.stop - w.start
    if length is None:
        assert (w.start == 1).all()
    else:
        assert (shown <= length).all()
        roomy = np.array(lengths) - 2 >= length
        assert (shown[roomy] == length).all()


@given(LENGTHS, st.integers(0, 3), st.data())
def test_a_rows_window_does_not_depend_on_the_other_rows(lengths: list[int], seed: int, data: st.DataObject) -> None:
    """Mistake 36: every row has its own generator, so order, subset and other draws change nothing."""
    rows = np.arange(len(lengths)) + 1000
    whole = windows("last", rows, lengths, seed, 5)
    some = data.draw(st.permutations(range(len(lengths))))[: data.draw(st.integers(1, len(lengths)))]
    part = windows("last", rows[some], np.array(lengths)[some], seed, 5)
    for field in range(4):
        assert np.array_equal(part[field], whole[field][some])


def test_targets_are_spread_over_all_positions() -> None:
    w = windows("last", range(4000), [256] * 4000, 0, 32)
    assert w.first.min() == 32
    assert w.first.max() == 254
    assert abs(w.first.mean() - 143) < 4
    assert not np.array_equal(w.first, windows("last", range(4000), [256] * 4000, 1, 32).first)


@given(LENGTHS)
def test_all_predicts_every_position_after_bos(lengths: list[int]) -> None:
    w = windows("all", range(len(lengths)), lengths)
    window, position = w.positions()
    want = [(i, p) for i, length in enumerate(lengths) for p in range(1, length)]
    assert list(zip(window.tolist(), position.tolist(), strict=True)) == want


def test_no_rows_have_no_windows() -> None:
    for mode in ("last", "all"):
        w = windows(mode, [], [])
        assert [len(field) for field in w] == [0, 0, 0, 0]
        assert len(w.positions()[0]) == 0
