"""Codes of the conditions: what is kept, how much of it, and that no failed prediction ever counts as found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nlsim.config import parse_config
from nlsim.continuations.conditions import (
    Condition,
    Predicted,
    code_of,
    kept,
    lots,
    of_kind,
    without_explanations,
)
from nlsim.continuations.config import ContinuationsConfig
from nlsim.continuations.kinds import shown_kinds
from nlsim.continuations.prompts import spread_rows
from nlsim.corpus.splits import Split
from nlsim.errors import UsageError

codes = arrays(np.float32, (4, 9), elements=st.sampled_from([0, 0, 0.5, 1, 2, 2, 3]))
fractions = st.floats(0.01, 0.99)
SEED = (3, 1)


@given(codes, fractions, st.sampled_from(["top", "random"]))
def test_a_fraction_keeps_true_values_and_at_least_one(truth_SL: np.ndarray, fraction: float, order: str) -> None:
    code_SL = code_of(Condition(order, fraction), truth_SL, None, 0.5, SEED)  # type: ignore[arg-type]
    assert ((code_SL == truth_SL) | (code_SL == 0)).all()
    for active, count in zip((truth_SL > 0).sum(1), (code_SL > 0).sum(1), strict=True):
        assert count == (max(1, math.floor(fraction * active + 0.5)) if active else 0)


@given(codes, fractions, fractions, st.sampled_from(["top", "random"]))
def test_a_smaller_fraction_keeps_a_part_of_a_larger_one(truth_SL: np.ndarray, a: float, b: float, order: str) -> None:
    few, many = (code_of(Condition(order, x), truth_SL, None, 0.5, SEED) > 0 for x in sorted((a, b)))  # type: ignore[arg-type]
    assert not (few & ~many).any()


@given(codes, fractions)
def test_the_strongest_are_kept(truth_SL: np.ndarray, fraction: float) -> None:
    code_SL = code_of(Condition("top", fraction), truth_SL, None, 0.5, SEED)
    for truth_L, code_L in zip(truth_SL, code_SL, strict=True):
        left_out = truth_L[(truth_L > 0) & (code_L == 0)]
        assert not left_out.size or left_out.max() <= code_L[code_L > 0].min()


def test_random_choices_depend_on_the_step_and_not_on_the_text() -> None:
    """Mistake 36: draws that share one stream change with what else is drawn."""
    np.testing.assert_array_equal(lots((3, 20), SEED), lots((7, 20), SEED)[:3])
    assert (np.sort(lots((3, 20), SEED), 1) == np.arange(20)).all()
    assert not (lots((3, 20), SEED) == lots((3, 20), (4, 1))).all()
    one = np.ones((2, 20), np.float32)
    assert (kept(one, 0.5, lots((2, 20), SEED))[0] != kept(one, 0.5, lots((2, 20), SEED))[1]).any()


def test_all_and_none() -> None:
    truth_SL = np.array([[0, 1, 2]], np.float32)
    np.testing.assert_array_equal(code_of(Condition("coder"), truth_SL, None, 0.5, SEED), truth_SL)
    assert not code_of(Condition("none"), truth_SL, None, 0.5, SEED).any()


def test_help_keeps_true_values_of_what_is_found_and_no_false_alarm() -> None:
    """Mistake 3: a failed prediction is NaN, which is not found, and not the largest answer."""
    truth_SL = np.array([[0, 1, 2, 3, 4]], np.float32)
    said = Predicted(np.array([[0.9, 0.5, 0.49, np.nan, 1]], np.float32), np.full((1, 5), 7, np.float32))
    found = code_of(Condition("help", kind="k"), truth_SL, said, 0.5, SEED)
    np.testing.assert_array_equal(found, [[0, 1, 0, 0, 4]])
    simulated = code_of(Condition("simulated", kind="k"), truth_SL, said, 0.5, SEED)
    np.testing.assert_array_equal(simulated, said.value_SL)
    with pytest.raises(ValueError, match="help:k needs predictions"):
        code_of(Condition("help", kind="k"), truth_SL, None, 0.5, SEED)


def test_labels_are_unique_and_as_documented() -> None:
    config = ContinuationsConfig(fractions=(0.3, 0.05))
    labels = [
        condition.label
        for condition in (*without_explanations(config), *of_kind("base", True), *of_kind("large", True))
    ]
    assert labels[:4] == ["coder", "none", "top:0.05", "top:0.3"]
    assert labels[-2:] == ["help:large", "simulated:large"]
    assert len(set(labels)) == len(labels)
    assert [condition.what for condition in of_kind("asked", calibrated=False)] == ["help"]


def test_a_wrong_configuration_is_refused() -> None:
    data = {"name": "x", "subject": {"model": "m"}, "coder": {"path": "c"}}
    with pytest.raises(UsageError, match="between 0 and 1"):
        parse_config({**data, "continuations": {"fractions": [0.5, 1.0]}})
    with pytest.raises(UsageError, match="kinds names 'tall'"):
        shown_kinds(parse_config({**data, "continuations": {"kinds": ["tall"]}, "kinds": {"short": {}}}))
    with pytest.raises(UsageError, match="prompts must not be empty"):
        parse_config({**data, "continuations": {"prompts": [" "]}})


def test_kinds_are_those_of_the_run_unless_some_are_chosen() -> None:
    data = {"name": "x", "subject": {"model": "m"}, "coder": {"path": "c"}, "kinds": {"short": {}, "tall": {}}}
    assert shown_kinds(parse_config(data)) == ("base", "short", "tall")
    assert shown_kinds(parse_config({**data, "continuations": {"kinds": ["tall", "base"]}})) == ("base", "tall")


def test_prompts_come_from_held_out_documents_each_before_any_comes_again() -> None:
    """Mistake 23: evaluated texts that examples were drawn from."""
    split = np.array([Split.EXPLAIN, *[Split.EVALUATE] * 6])
    length = np.array([64, 64, 64, 5, 64, 64, 64])
    document = np.array([0, 1, 1, 2, 2, 3, 1])
    assert spread_rows(split, length, document, 16).tolist() == [1, 4, 5, 2, 6]
