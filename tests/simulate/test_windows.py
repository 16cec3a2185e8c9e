"""Where activations are predicted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlsim.corpus.splits import Split
from nlsim.errors import DataError
from nlsim.latents.rows import TokenRows
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.predictions import derangement
from nlsim.simulate.windows import choose_windows


def token_rows(seed: int = 0, rows: int = 40, context: int = 24) -> TokenRows:
    rng = np.random.default_rng(seed)
    split = np.sort(rng.choice([int(Split.EXPLAIN), int(Split.CALIBRATE), int(Split.EVALUATE)], rows))
    length = np.where(rng.random(rows) < 0.5, context, rng.integers(3, context + 1, rows))
    return TokenRows(rng.integers(1, 9, (rows, context)), length, split)


@given(st.integers(0, 50), st.sampled_from([None, 2, 8]), st.sampled_from(["all", "last"]))
@settings(max_examples=40, deadline=None)
def test_every_read_has_a_next_token_in_its_row(seed: int, window: int | None, positions: str) -> None:
    """Mistake 11 (part): the target of a window lies in the same row, after the window."""
    rows = token_rows(seed)
    config = SimulateConfig.model_validate({"window": window, "positions": positions})
    found = choose_windows(rows, config, seed=1)
    assert (found.start_N >= 1).all()
    assert (found.start_N + found.length_N < rows.length_R[found.row_N]).all()
    if window:
        assert (found.length_N == window).all()
    row, position = found.at_R // rows.context, found.at_R % rows.context
    assert (row == found.row_N[found.window_R]).all()
    assert (position >= found.start_N[found.window_R]).all()
    assert (position < (found.start_N + found.length_N)[found.window_R]).all()
    for number in range(len(found.row_N)):
        offsets = found.offsets(number)
        assert offsets[-1] == found.length_N[number] - 1
        expected = np.arange(found.length_N[number]) if positions == "all" else offsets[-1:]
        np.testing.assert_array_equal(offsets, expected)


def test_splits_are_kept_apart() -> None:
    """Mistake 23: evaluated sentences came from the rows that explanations were made from."""
    rows = token_rows()
    found = choose_windows(rows, SimulateConfig(), 0)
    assert set(rows.split_R[found.row_N].tolist()) == {int(Split.CALIBRATE), int(Split.EVALUATE)}
    both = [set(found.reads_of(split).tolist()) for split in (Split.CALIBRATE, Split.EVALUATE)]
    assert not both[0] & both[1]
    assert len(both[0]) + len(both[1]) == len(found.at_R)


def test_a_window_depends_on_its_row_alone() -> None:
    """Mistake 36: window draws shared a stream, so that scripts with other draws or other rows read other windows."""
    rows = token_rows()
    many = choose_windows(rows, SimulateConfig(window=6, evaluation_rows=64), 4)
    few = choose_windows(rows, SimulateConfig(window=6, evaluation_rows=3, calibration_rows=2), 4)
    chosen = dict(zip(many.row_N.tolist(), many.start_N.tolist(), strict=True))
    assert all(chosen[row] == start for row, start in zip(few.row_N.tolist(), few.start_N.tolist(), strict=True))
    assert len(set(many.start_N.tolist())) > 3
    other = choose_windows(rows, SimulateConfig(window=6), 5)
    assert not np.array_equal(many.start_N, other.start_N)


def test_a_split_without_long_rows_is_named() -> None:
    rows = TokenRows(np.ones((3, 8), int), np.array([8, 8, 3]), np.array([1, 3, 4]))
    with pytest.raises(DataError, match="evaluate split"):
        choose_windows(rows, SimulateConfig(window=4), 0)


@given(st.integers(2, 200), st.integers(0, 5))
@settings(deadline=None)
def test_a_derangement_leaves_nothing_in_place(count: int, seed: int) -> None:
    order = derangement(count, seed)
    assert sorted(order.tolist()) == list(range(count))
    assert (order != np.arange(count)).all()
    np.testing.assert_array_equal(order, derangement(count, seed))
