"""Conditions, their codes and clipping, on arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nlsim.coders.coder import Codes
from nlsim.reconstruct.conditions import Condition, conditions_of, permuted, replaced, with_policy
from nlsim.reconstruct.config import ReconstructConfig
from nlsim.reconstruct.measure import batches
from nlsim.reconstruct.patch import Batch, clip, dense

SCORE = np.array([0.6, np.nan, 0.9, 0.7, 0.9])


def test_a_fraction_takes_the_best_scored_and_counts_all_latents() -> None:
    """Mistakes 1 and 10: values were written in the order of a directory listing; latents without predictions were not
    in the denominator. Numbers are latents throughout, and the unscored come last, but count."""
    assert replaced(0.4, "score", 0, SCORE, 0).tolist() == [2, 4]
    assert replaced(0.8, "score", 0, SCORE, 0).tolist() == [0, 2, 3, 4]
    assert replaced(1.0, "score", 0, SCORE, 0).tolist() == [0, 1, 2, 3, 4]
    assert replaced(0.001, "score", 0, SCORE, 0).tolist() == [2]


@given(st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 9))
def test_random_selections_are_nested_in_a_draw_and_differ_between_draws(a: float, b: float, draw: int) -> None:
    score = np.zeros(200)
    small, large = (
        set(replaced(min(a, b), "random", draw, score, 3)),
        set(replaced(max(a, b), "random", draw, score, 3)),
    )
    assert small <= large
    assert set(replaced(0.5, "random", draw, score, 3)) != set(replaced(0.5, "random", draw + 1, score, 3))


def test_the_random_control_has_the_true_values_on_other_latents() -> None:
    """Mistakes 4 and 36: all random latents got one latent's *index* as activation; draws depended on each other."""
    truth = np.zeros((50, 40), np.float32)
    truth[np.arange(50), np.arange(50) % 40] = np.arange(1, 51)
    truth[:, 7] = 0.5
    at = np.arange(100, 150)
    random = permuted(truth, at, seed=1)
    np.testing.assert_array_equal(np.sort(random, axis=1), np.sort(truth, axis=1))
    assert ((random > 0) != (truth > 0)).any(1).all()
    np.testing.assert_array_equal(permuted(truth[10:20], at[10:20], seed=1), random[10:20])
    assert (permuted(truth, at, seed=2) != random).any()


def test_clipping_keeps_the_largest_by_value_or_by_contribution() -> None:
    """Mistake 8: the largest activations need not be those that write most."""
    code = torch.tensor([[5.0, 4.0, 0.0, 1.0], [0.0, 0.0, 0.0, 2.0]])
    decoder = torch.diag(torch.tensor([0.1, 1.0, 1.0, 10.0]))
    assert clip(code, "value", 2, decoder).tolist() == [[5, 4, 0, 0], [0, 0, 0, 2]]
    assert clip(code, "norm", 2, decoder).tolist() == [[0, 4, 0, 1], [0, 0, 0, 2]]
    assert torch.equal(clip(code, "none", 2, decoder), code)
    assert torch.equal(clip(code, "value", 9, decoder), code)


def test_dense_codes_ignore_absent_entries() -> None:
    codes = Codes(torch.tensor([[2, 0, 0], [1, 3, 0]]), torch.tensor([[5.0, 0.0, 0.0], [2.0, 1.0, 0.0]]))
    assert dense(codes, 4).tolist() == [[0, 0, 5, 0], [0, 2, 0, 1]]


def test_policies_for_latents_without_prediction() -> None:
    truth, value = np.array([[3.0, 4.0]], np.float32), np.array([[1.0, np.nan]], np.float32)
    predicted, mean = np.array([True, False]), np.array([0.5, 0.25])
    got = {policy: with_policy(value, predicted, policy, mean, truth).tolist() for policy in ("mean", "zero", "true")}
    assert got == {"mean": [[1, 0.25]], "zero": [[1, 0]], "true": [[1, 4]]}


def test_conditions_are_named_and_each_is_run_once() -> None:
    """Mistakes 5 and 41: the meaning of −1 and −2 was lost; baselines were run again for every fraction."""
    config = ReconstructConfig(positions=("all", "last"))
    found = conditions_of(config, curve=True)
    assert len(found) == len(set(found))
    assert Condition("posterior") in found
    assert Condition("posterior", clip="norm", positions="last") in found
    assert Condition("mean", clip="value") not in found
    assert sum(one.values == "coder" for one in found) == 2
    posterior = [one for one in found if one.values == "posterior" and one.positions == "all" and one.fraction < 1]
    assert sum(one.order == "score" for one in posterior) == 8
    assert sum(one.order == "random" for one in posterior) == 8 * 5
    assert {one.fraction for one in conditions_of(config, curve=False)} == {1.0}


def test_configuration_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="fractions"):
        ReconstructConfig(fractions=(0.0, 0.5))
    with pytest.raises(ValueError, match="clean and coder"):
        ReconstructConfig(values=("posterior",))


def testbatches_do_not_cross_the_end_of_the_curves() -> None:
    assert batches(0, 10, 4, 6) == [(0, 4), (4, 6), (6, 10)]
    assert batches(8, 12, 3, 6) == [(8, 11), (11, 12)]
    assert batches(0, 3, 8, 16) == [(0, 3)]
    assert batches(5, 5, 8, 16) == []


def test_the_last_position_of_each_row() -> None:
    batch = Batch(np.zeros((3, 9), int), np.full(3, 9), np.array([0, 0, 1, 2, 2]), np.array([3, 4, 7, 1, 5]))
    assert batch.last_N.tolist() == [False, True, True, False, True]
