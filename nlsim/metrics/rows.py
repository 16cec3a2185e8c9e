"""Rows of metrics.json: a tidy list of named values with their conditions."""

import math
from collections.abc import Mapping
from typing import Any

from nlsim.metrics.intervals import Estimate

Row = dict[str, Any]


def metric_row(
    name: str, estimate: Estimate | float, unit: str, condition: Mapping[str, Any], n: int | None = None
) -> Row:
    """One entry of the list: `{"name", "condition", "value", "low", "high", "n", "unit"}`.

    A plain number has no interval: its bounds are None, as is everything that is not finite, since JSON knows no NaN.
    """
    if not isinstance(estimate, Estimate):
        estimate = Estimate(float(estimate), math.nan, math.nan, n or 0)
    return {
        "name": name,
        "condition": dict(condition),
        "value": _finite(estimate.value),
        "low": _finite(estimate.low),
        "high": _finite(estimate.high),
        "n": estimate.n,
        "unit": unit,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
