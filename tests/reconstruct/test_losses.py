"""From losses to metrics: means, paired differences, recovered fractions."""

import numpy as np
import pyarrow as pa
import pytest

from nlsim.metrics.rows import Row
from nlsim.reconstruct.conditions import Condition
from nlsim.reconstruct.losses import KEY, LossTable, loss_metrics
from nlsim.reconstruct.patch import Measured

LEVEL = {"clean": 2.9, "coder": 3.0, "token_mean": 3.02, "posterior": 3.05, "mean": 3.1, "zero": 3.15}


def table(documents: int = 20, noise: float = 0.0) -> pa.Table:
    """Windows of very different loss in common, conditions of known differences; windows have 5 to 9 tokens."""
    generator = np.random.default_rng(0)
    losses = LossTable()
    for row in range(documents * 3):
        tokens = 5 + row % 5
        common = generator.normal(0, 1)
        for values, level in LEVEL.items():
            ce = np.full(tokens, level + common + noise * generator.normal())
            measured = Measured(Condition(values), np.arange(tokens), ce, np.abs(ce) / 10, ce > 3)  # type: ignore[arg-type]
            losses.add(measured, np.full(tokens, row), np.full(tokens, row // 3))
        for draw in range(3):
            measured = Measured(
                Condition("posterior", 0.5, "random", draw),
                np.arange(tokens),
                np.full(tokens, 3.0 + common + draw),
                ce,
                ce > 3,
            )
            losses.add(measured, np.full(tokens, row), np.full(tokens, row // 3))
    return losses.table()


def found(rows: list[Row], name: str, values: str, fraction: float = 1.0) -> Row:
    (row,) = [
        row
        for row in rows
        if row["name"] == name and row["condition"]["values"] == values and row["condition"]["fraction"] == fraction
    ]
    return row


def test_paired_differences_are_exact_however_windows_differ() -> None:
    rows = loss_metrics(table())
    for values in ("posterior", "zero", "mean"):
        row = found(rows, "ce_minus_coder", values)
        expected = LEVEL[values] - LEVEL["coder"]
        assert (row["value"], row["low"], row["high"]) == pytest.approx((expected, expected, expected))
        assert (row["unit"], row["n"]) == ("nats", 60 * 7)
    assert found(rows, "ce", "posterior")["high"] - found(rows, "ce", "posterior")["low"] > 0.2


def test_recovered_fraction_is_between_mean_and_coder() -> None:
    rows = loss_metrics(table(noise=0.01))
    assert found(rows, "fraction_recovered", "posterior")["value"] == pytest.approx(0.5, abs=0.05)
    assert found(rows, "fraction_recovered", "token_mean")["value"] == pytest.approx(0.8, abs=0.05)
    row = found(rows, "fraction_recovered_from_zero", "posterior")
    assert row["low"] < 2 / 3 < row["high"]
    assert row["high"] - row["low"] < 0.1
    assert not [
        row for row in rows if row["name"] == "fraction_recovered" and row["condition"]["values"] in ("mean", "coder")
    ]


def test_random_draws_are_averaged_window_by_window() -> None:
    rows = loss_metrics(table())
    row = found(rows, "ce_minus_coder", "posterior", 0.5)
    assert row["value"] == pytest.approx(1.0)
    assert row["n"] == 60 * 7
    assert set(row["condition"]) == set(KEY)


def test_windows_weigh_by_their_tokens() -> None:
    frame = table().to_pandas()
    clean = frame[frame["values"] == "clean"]
    expected = np.average(clean.ce, weights=clean.tokens)
    assert found(loss_metrics(table()), "ce", "clean")["value"] == pytest.approx(expected)


def test_no_windows_no_metrics() -> None:
    assert loss_metrics(LossTable().table()) == []
