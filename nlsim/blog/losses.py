"""Losses of the blog's patched runs: lines of a table, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row

if TYPE_CHECKING:
    import pandas
    import pyarrow

    from nlsim.subject.model import Losses

Int = npt.NDArray[np.int64]
MEASURES = ("ce", "kl", "kl_reverse", "top1")


class LossLines:
    """Collects losses, one line per condition and group of positions (a row, or a single read)."""

    def __init__(self, condition: Mapping[str, str]) -> None:
        """`condition`: the columns that tell conditions apart, with their Arrow types."""
        self._condition = dict(condition)
        self._columns: dict[str, list[Any]] = {
            name: [] for name in ("group", "document", *condition, "tokens", *MEASURES)
        }

    def __len__(self) -> int:
        return len(self._columns["group"])

    def add(self, losses: Losses, condition: Mapping[str, Any], group_P: Int, document_P: Int) -> None:
        """Add one condition's losses (C = 1) at P positions: their means over each group."""
        reverse = losses.reverse_kl_CP
        measured = [losses.ce_CP, losses.kl_CP, losses.kl_CP if reverse is None else reverse, losses.top1_CP]
        values_MP = np.stack([column[0].double().cpu().numpy() for column in measured])
        names, first, place_P = np.unique(group_P, return_index=True, return_inverse=True)
        tokens = np.bincount(place_P)
        for name, values_P in zip(MEASURES, values_MP, strict=True):
            self._columns[name] += (np.bincount(place_P, values_P) / tokens).tolist()
        self._columns["group"] += names.tolist()
        self._columns["document"] += document_P[first].tolist()
        self._columns["tokens"] += tokens.tolist()
        for name in self._condition:
            self._columns[name] += [condition[name]] * len(names)

    def table(self) -> pyarrow.Table:
        """Columns group, document, those of the condition, tokens, ce, kl and kl_reverse (nats), top1 (share)."""
        import pyarrow as pa

        whole = dict.fromkeys(("group", "document", "tokens"), "int64")
        types = {**whole, **self._condition, **dict.fromkeys(MEASURES, "double")}
        named = {name: pa.type_for_alias(kind) for name, kind in types.items()}
        return pa.table({name: pa.array(column, named[name]) for name, column in self._columns.items()})


def limit_rows(losses: pyarrow.Table, draws: int, level: float) -> list[Row]:
    """Figure 1 and the curve of needed accuracy: per condition `kl` (clean ‖ patched), `kl_reverse` (patched ‖ clean),
    `ce` and `ce_relative_error` = (CE − CE clean) / CE clean, random draws averaged row by row; rows weigh by their
    tokens, documents are resampled."""
    frame = losses.to_pandas()
    if frame.empty:
        return []
    key = ["keep", "latents", "recall", "false_rate"]
    averaged = frame.groupby([*key, "group"], sort=False)[["document", "tokens", *MEASURES]].mean()
    groups = {name: part.droplevel(key).sort_index() for name, part in averaged.groupby(level=key, sort=False)}
    clean = next(part for name, part in groups.items() if name[0] == "clean")
    rows: list[Row] = []
    for name, part in groups.items():
        bootstrap = Bootstrap(part["document"].to_numpy(), draws, level=level)
        named: dict[str, Any] = dict(zip(key, name, strict=True))
        condition: dict[str, Any] = {"task": "limits", "keep": named["keep"]}
        if named["keep"] in ("strongest", "random"):
            condition["count"] = int(named["latents"])
        if named["keep"] == "planted":
            condition |= {"recall": named["recall"], "false_rate": named["false_rate"]}
        rows += _loss_rows(part, bootstrap, condition)
        base = clean.reindex(part.index)
        weight = part["tokens"].to_numpy(dtype=np.float64)
        more, of = (part["ce"] - base["ce"]).to_numpy() * weight, base["ce"].to_numpy() * weight
        error = bootstrap.ratio(more, of)._replace(n=int(weight.sum()))
        rows.append(metric_row("ce_relative_error", error, "share", condition))
    return rows


def help_rows(losses: pyarrow.Table, own: str, draws: int, level: float) -> list[Row]:
    """Figure 3: per kind of explanations `kl`, `kl_reverse` and `ce` over reads, with the published spread: median and
    quartiles over reads; and the paired `ce_minus_coder`. Rows of the run's own kind `own` have no condition `kind`."""
    frame = losses.to_pandas()
    rows: list[Row] = []
    groups = dict(iter(frame.groupby(["kind", "keep"], sort=False)))
    for (kind, keep), part in groups.items():
        mine = part.set_index("group").sort_index()
        bootstrap = Bootstrap(mine["document"].to_numpy(), draws, level=level)
        condition: dict[str, Any] = {"task": "help", "keep": keep}
        if kind not in ("", own):
            condition["kind"] = kind
        rows += _loss_rows(mine, bootstrap, condition)
        for name in ("kl", "kl_reverse"):
            for quartile, at in (("p25", 0.25), ("p50", 0.5), ("p75", 0.75)):
                value = float(np.quantile(mine[name].to_numpy(), at))
                rows.append(metric_row(f"{name}_{quartile}", value, "nats", condition, len(mine)))
        if keep not in ("clean", "coder"):
            base = groups[("", "coder")].set_index("group").reindex(mine.index)
            found = bootstrap.difference(mine["ce"].to_numpy(), base["ce"].to_numpy())
            rows.append(metric_row("ce_minus_coder", found, "nats", condition))
    return rows


def _loss_rows(part: pandas.DataFrame, bootstrap: Bootstrap, condition: Mapping[str, Any]) -> list[Row]:
    weight = part["tokens"].to_numpy(dtype=np.float64)
    rows = []
    for name in MEASURES:
        found = bootstrap.mean(part[name].to_numpy(), weight)._replace(n=int(weight.sum()))
        rows.append(metric_row(name, found, "share" if name == "top1" else "nats", condition))
    return rows
