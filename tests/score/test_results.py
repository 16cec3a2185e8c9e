"""Scores from answers, against scikit-learn, with failures counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from nlsim.score.questions import Question
from nlsim.score.results import Answered, example_table, probability_of_yes, score_row, score_table


def answered(truth: list[bool], probability: list[float]) -> Answered:
    questions = [Question(i, 1, ["a", "b"], (False, True), yes, 0) for i, yes in enumerate(truth)]
    return Answered(5, "detection", questions, np.array(probability))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=16)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_rates_are_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    truth, probability = [yes for yes, _ in pairs], [p for _, p in pairs]
    row = score_row(answered(truth, probability))
    assert row["n_pos"] + row["n_neg"] == len(pairs) == row["tp"] + row["fp"] + row["tn"] + row["fn"]
    decided = np.array(probability) >= 0.5
    if any(truth) and not all(truth):
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, decided))
        assert row["auc"] == pytest.approx(roc_auc_score(truth, probability))
        assert row["low"] <= row["balanced_accuracy"] <= row["high"]
    else:
        assert np.isnan(row["auc"])
    if row["tp"] + row["fp"] + row["fn"]:
        assert row["f1"] == pytest.approx(f1_score(truth, decided))


def test_failures_are_counted_and_are_no_answers() -> None:
    """Mistake 2: sentinels of failed answers entered the averages. Mistake 3: a failure counted as the maximum."""
    row = score_row(answered([True, True, False, False], [0.9, np.nan, 0.1, np.nan]))
    assert (row["failed"], row["tp"], row["tn"], row["fp"], row["fn"]) == (2, 1, 1, 0, 0)
    assert row["balanced_accuracy"] == 1.0


def test_little_mass_is_a_failure_and_mass_is_no_probability() -> None:
    """Mistake 12: the probability of "1" alone was used, whatever the two answers hold together."""
    logprobs = np.log([[0.3, 0.1], [0.01, 0.01], [0.0001, 0.9]])
    found = probability_of_yes(logprobs)
    assert found[0] == pytest.approx(0.25)
    assert np.isnan(found[1])
    assert found[2] == pytest.approx(0.9 / 0.9001)


def test_tables_hold_one_row_per_latent_and_per_example() -> None:
    some = [answered([True, False], [0.7, 0.2]), answered([True], [np.nan])]
    scores, examples = score_table(some), example_table(some)
    assert scores.num_rows == 2
    assert examples.num_rows == 3
    assert examples.column("marked").to_pylist() == [[1], [1], [1]]
    assert score_table([]).num_rows == example_table([]).num_rows == 0
    assert score_table([]).schema == scores.schema
