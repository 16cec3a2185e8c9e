"""Comparing runs: pairs where there are pairs, corrected for many comparisons, silent about noise."""

import math

import numpy as np
import pandas as pd
import pytest

from nlsim.api.compare import Change, chance, compare, judged, paired_losses, paired_scores, unpaired
from nlsim.api.run import open_run
from nlsim.metrics.intervals import Estimate
from nlsim.reconstruct.losses import KEY

CLEAN = {"values": "clean", "fraction": 1.0, "order": "all", "clip": "none", "positions": "all"}


def losses(rng: np.random.Generator, shift: float, windows: int = 40) -> pd.DataFrame:
    """Losses of two conditions whose windows differ by far more than the conditions do."""
    base = np.random.default_rng(0).normal(3, 1, windows)
    rows = []
    for values, extra in (("clean", 0.0), ("posterior", shift)):
        for row in range(windows):
            key = {**dict.fromkeys(KEY, "all"), **CLEAN, "values": values}
            numbers = {"ce": base[row] + extra + rng.normal(0, 0.01) * (values != "clean"), "kl": extra, "top1": 1.0}
            rows.append({**key, "row": row, "document": row // 2, "draw": 0, "tokens": 5 + row % 3, **numbers})
    return pd.DataFrame(rows)


def test_pairs_of_windows_see_what_intervals_cannot() -> None:
    rng = np.random.default_rng(1)
    found = {(c.name, c.condition["values"]): c for c in judged(paired_losses(losses(rng, 0.1), losses(rng, 0.15)))}
    moved = found["ce", "posterior"]
    assert moved.difference.low > 0.03
    assert moved.difference.value == pytest.approx(0.05, abs=0.01)
    assert moved.verdict == "higher"
    assert moved.paired == "windows"
    assert found["ce", "clean"].verdict == "same"
    assert found["ce_minus_clean", "posterior"].difference.value == pytest.approx(moved.difference.value)
    alone = unpaired("ce", {}, Estimate(3.1, 2.8, 3.4, 40), Estimate(3.15, 2.85, 3.45, 40))
    assert next(iter(judged([alone]))).verdict == "unclear"


def test_windows_that_differ_are_not_paired() -> None:
    rng = np.random.default_rng(1)
    other = losses(rng, 0.1)
    other["row"] += 1
    assert list(paired_losses(losses(rng, 0.1), other)) == []
    longer = losses(rng, 0.1)
    longer["tokens"] += 1
    assert list(paired_losses(losses(rng, 0.1), longer)) == []


def test_scores_are_paired_over_common_latents() -> None:
    def scores(latents: range, extra: float) -> pd.DataFrame:
        rows = [
            {
                "latent": n,
                "scorer": "detection",
                "balanced_accuracy": 0.6 + 0.01 * (n % 9) + extra,
                "auc": math.nan,
                "f1": 0.5,
            }
            for n in latents
        ]
        return pd.DataFrame(rows).assign(auc=math.nan, f1=0.5)

    found = {change.name: change for change in paired_scores(scores(range(30), 0.0), scores(range(10, 40), 0.02))}
    assert found["balanced_accuracy"].difference.value == pytest.approx(0.02)
    assert found["balanced_accuracy"].difference.n == 20
    assert "auc" not in found, "undefined everywhere"
    assert found["f1"].difference.value == 0


def test_noise_alone_is_rarely_called_a_change() -> None:
    """Of 200 comparisons of pure noise, uncorrected tests would call about ten; the correction all but none."""
    rng = np.random.default_rng(2)
    noise = [
        Change("x", {"i": i}, 0.0, value, Estimate(value, value - 1.96, value + 1.96, 9), "", "")
        for i, value in enumerate(rng.normal(size=200).tolist())
    ]
    verdicts = [change.verdict for change in judged(noise)]
    assert sum(chance(change.difference) < 0.05 for change in noise) >= 5
    assert sum(verdict in ("higher", "lower") for verdict in verdicts) <= 1
    strong = Change("y", {}, 0.0, -5.0, Estimate(-5.0, -6.96, -3.04, 9), "", "")
    assert list(judged([*noise, strong]))[-1].verdict == "lower"


def test_chance_is_the_normal_distributions() -> None:
    assert chance(Estimate(1.959964, 0.0, 2 * 1.959964, 9)) == pytest.approx(0.05, abs=1e-6)
    assert chance(Estimate(0.0, 0.0, 0.0, 9)) == 1.0
    assert chance(Estimate(0.1, 0.1, 0.1, 9)) == 0.0
    assert math.isnan(chance(Estimate(1.0, math.nan, math.nan, 9)))


def test_a_run_does_not_differ_from_itself(tiny_run: tuple[str, str]) -> None:
    found = compare(open_run(tiny_run[0]), open_run(tiny_run[0]))
    assert found.settings == ()
    assert (found.only_first, found.only_second) == (0, 0)
    assert {change.verdict for change in found.changes} <= {"same", ""}
    assert {"windows", "latents"} <= {change.paired for change in found.changes}
    assert len(found.changes) == len(open_run(tiny_run[0]).metric_rows)
