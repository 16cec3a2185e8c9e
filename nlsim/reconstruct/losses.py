"""Losses by window and condition, and what they say: rows of metrics.json with paired, document-level intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.metrics.intervals import Bootstrap, Estimate
from nlsim.metrics.rows import Row, metric_row

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from nlsim.reconstruct.patch import Measured

Int = npt.NDArray[np.int64]

KEY = ["values", "fraction", "order", "clip", "positions"]
"""Columns that tell conditions apart; random draws of one condition are averaged window by window."""

BASELINES = ("clean", "coder", "zero", "mean", "token_mean")
"""What every condition's cross entropy is compared with, window by window: `ce_minus_…`."""


class LossTable:
    """Collects measurements, as lines of a table: one per window (row) and condition."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str | int | float]] = {
            name: [] for name in ("row", "document", *KEY, "draw", "tokens", "ce", "kl", "top1")
        }

    def __len__(self) -> int:
        return len(self._lines["row"])

    def add(self, measured: Measured, row_P: Int, document_P: Int) -> None:
        """Add one condition's losses at P positions of the given rows and documents: means over each row's
        positions."""
        for row in np.unique(row_P):
            mine = row_P == row
            line = {
                "row": int(row),
                "document": int(document_P[mine][0]),
                **measured.condition._asdict(),
                "tokens": int(mine.sum()),
                "ce": float(measured.ce_P[mine].mean(dtype=np.float64)),
                "kl": float(measured.kl_P[mine].mean(dtype=np.float64)),
                "top1": float(measured.top1_P[mine].mean()),
            }
            for name, column in self._lines.items():
                column.append(line[name])

    def table(self) -> pyarrow.Table:
        """Columns row, document, values, fraction, order, clip, positions, draw, tokens, ce and kl (nats), top1
        (share)."""
        import pyarrow as pa

        whole, text = {"row", "document", "draw", "tokens"}, {"values", "order", "clip", "positions"}
        return pa.table(
            {
                name: pa.array(column, pa.int64() if name in whole else pa.string() if name in text else pa.float64())
                for name, column in self._lines.items()
            }
        )


def loss_metrics(losses: pyarrow.Table, draws: int = 2000, level: float = 0.95) -> list[Row]:
    """Summarise the `losses` tables of all shards.

    Per condition: `ce`, `kl`, `top1` and the paired `ce_minus_BASELINE`, all over the same windows; and
    `fraction_recovered` = (mean - x) / (mean - coder), `fraction_recovered_from_zero` with zero in place of mean.
    Windows weigh by their tokens; documents are resampled; n is the number of tokens.
    """
    frame = losses.to_pandas()
    if frame.empty:
        return []
    averaged = frame.groupby([*KEY, "row"], sort=False)[["document", "tokens", "ce", "kl", "top1"]].mean()
    rows: list[Row] = []
    groups = dict(iter(averaged.groupby(level=KEY, sort=False)))
    resamples: dict[tuple[int, ...], Bootstrap] = {}
    for key, group in groups.items():
        condition = dict(zip(KEY, key, strict=True))
        own = group.droplevel(KEY).sort_index()
        windows = tuple(int(row) for row in own.index)
        if windows not in resamples:
            resamples[windows] = Bootstrap(own["document"].to_numpy(), draws, level=level)
        others = {
            name: groups[base].droplevel(KEY)["ce"].reindex(own.index).to_numpy()
            for name in BASELINES
            if (base := (name, 1.0, "all", "none", condition["positions"])) in groups
        }
        rows += _of_condition(condition, own, others, resamples[windows])
    return rows


def _of_condition(
    condition: dict[str, str | float],
    own: pandas.DataFrame,
    others: dict[str, npt.NDArray[np.float64]],
    bootstrap: Bootstrap,
) -> list[Row]:
    tokens = own["tokens"].to_numpy(dtype=np.float64)
    ce = own["ce"].to_numpy()

    def over_tokens(value: npt.NDArray[np.float64], per: npt.NDArray[np.float64] | None = None) -> Estimate:
        found = bootstrap.ratio(value * tokens, (np.ones_like(tokens) if per is None else per) * tokens)
        return found._replace(n=int(tokens.sum()))

    rows = [
        metric_row("ce", over_tokens(ce), "nats", condition),
        metric_row("kl", over_tokens(own["kl"].to_numpy()), "nats", condition),
        metric_row("top1", over_tokens(own["top1"].to_numpy()), "share", condition),
    ]
    for name, other in others.items():
        if name != condition["values"]:
            rows.append(metric_row(f"ce_minus_{name}", over_tokens(ce - other), "nats", condition))
    for name, start in (("fraction_recovered", "mean"), ("fraction_recovered_from_zero", "zero")):
        if {start, "coder"} <= others.keys() and condition["values"] not in ("clean", "coder", start):
            share = over_tokens(others[start] - ce, others[start] - others["coder"])
            rows.append(metric_row(name, share, "share", condition))
    return rows
