"""Two runs beside each other: which numbers moved, and whether that is more than chance.

Where both runs measured the same thing on the same windows (or scored the same latents), the difference is taken pair
by pair, which is far sharper than comparing two intervals. Everything else is compared by its intervals, as if the two
runs were independent: too careful where they share data, never too bold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from nlsim.errors import UsageError
from nlsim.metrics.intervals import Bootstrap, Estimate
from nlsim.reconstruct.losses import BASELINES, KEY

if TYPE_CHECKING:
    import pandas

    from nlsim.api.run import RunView

Key = tuple[str, tuple[tuple[str, Any], ...]]
"""A metric's name and condition."""

LEVEL = 0.95
SCORES = ("balanced_accuracy", "auc", "f1")


class Change(NamedTuple):
    """One number in two runs."""

    name: str
    condition: dict[str, Any]
    first: float
    second: float
    """Of paired changes both are over what the two runs have in common."""
    difference: Estimate
    """Second minus first. NaN bounds: there is nothing to judge it by."""
    paired: Literal["windows", "latents", ""]
    verdict: Literal["higher", "lower", "unclear", "same", ""]
    """`higher`, `lower`: the second run's, at a false discovery rate of 5 % over all that was compared; `unclear`:
    chance may explain it; `same`: equal numbers; empty: no interval to judge by."""


class Comparison(NamedTuple):
    """What `compare` found."""

    changes: tuple[Change, ...]
    only_first: int
    """Numbers that only the first run has."""
    only_second: int
    settings: tuple[str, ...]
    """Dotted paths of settings that differ."""


def compare(first: RunView, second: RunView) -> Comparison:
    """Every number that both reports hold. Raises IncompleteError unless both runs have a report, UsageError when they
    have no number in common."""
    mine = {key_of(row): row for row in first.metric_rows}
    theirs = {key_of(row): row for row in second.metric_rows}
    common = [key for key in mine if key in theirs]
    if not common:
        raise UsageError(f"{first.url} and {second.url} have no number in common", "compare runs of one experiment")
    pairs = dict(_pairs(first, second))
    found = [
        pairs.get(key) or unpaired(key[0], mine[key]["condition"], estimate(mine[key]), estimate(theirs[key]))
        for key in common
    ]
    settings = tuple(first.config.differences(second.config))
    return Comparison(tuple(judged(found)), len(mine) - len(common), len(theirs) - len(common), settings)


def key_of(row: dict[str, Any]) -> Key:
    """What tells a row of metrics.json from others."""
    return row["name"], tuple(sorted((name, repr(value)) for name, value in row["condition"].items()))


def estimate(row: dict[str, Any]) -> Estimate:
    """Value and interval of a row of metrics.json."""
    value, low, high = (math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
    return Estimate(value, low, high, row["n"])


def unpaired(name: str, condition: dict[str, Any], first: Estimate, second: Estimate) -> Change:
    """The difference of two independent estimates, errors added in squares."""
    value = second.value - first.value
    reach = math.hypot(first.high - first.low, second.high - second.low) / 2
    between = Estimate(value, value - reach, value + reach, min(first.n, second.n))
    return Change(name, condition, first.value, second.value, between, "", "")


def paired_losses(first: pandas.DataFrame, second: pandas.DataFrame) -> Iterator[Change]:
    """Changes of ce, kl, top1 and ce_minus_… from two `losses` tables of the same windows; none where these differ.

    Windows weigh by their tokens and documents are resampled, as in the report.
    """
    tables = [
        f.groupby([*KEY, "row"], sort=False)[["document", "tokens", "ce", "kl", "top1"]].mean() for f in (first, second)
    ]
    groups: list[dict[Any, Any]] = [dict(iter(table.groupby(level=KEY, sort=False))) for table in tables]
    resamples: dict[tuple[int, ...], Bootstrap] = {}
    for key in groups[0].keys() & groups[1].keys():
        a, b = (group[key].droplevel(KEY).sort_index() for group in groups)
        if not a.index.equals(b.index) or not np.array_equal(a["tokens"], b["tokens"]):
            continue
        windows = tuple(int(row) for row in a.index)
        if windows not in resamples:
            resamples[windows] = Bootstrap(a["document"].to_numpy())
        condition = dict(zip(KEY, key, strict=True))
        columns = {name: (a[name].to_numpy(), b[name].to_numpy()) for name in ("ce", "kl", "top1")}
        for base in BASELINES:
            found = [group.get((base, 1.0, "all", "none", condition["positions"])) for group in groups]
            others = [other for other in found if other is not None]
            if base != condition["values"] and len(others) == len(groups):
                at = [other.droplevel(KEY)["ce"].reindex(a.index).to_numpy() for other in others]
                columns[f"ce_minus_{base}"] = (a["ce"].to_numpy() - at[0], b["ce"].to_numpy() - at[1])
        weight = a["tokens"].to_numpy(dtype=np.float64)
        for name, (x, y) in columns.items():
            moved = resamples[windows].ratio((y - x) * weight, weight)
            before, after = (float(np.average(values, weights=weight)) for values in (x, y))
            yield Change(name, condition, before, after, moved._replace(n=int(weight.sum())), "windows", "")


def paired_scores(first: pandas.DataFrame, second: pandas.DataFrame) -> Iterator[Change]:
    """Changes of the mean scores from two `scores` tables, over the latents that both have; latents are resampled."""
    for scorer in sorted(set(first["scorer"]) & set(second["scorer"])):
        a, b = (f[f["scorer"] == scorer].set_index("latent").sort_index() for f in (first, second))
        latents = a.index.intersection(b.index)
        for name in SCORES:
            x, y = a.loc[latents, name].to_numpy(np.float64), b.loc[latents, name].to_numpy(np.float64)
            known = np.isfinite(x) & np.isfinite(y)
            if known.any():
                moved = Bootstrap(np.arange(int(known.sum()))).mean((y - x)[known])
                before, after = (float(values[known].mean()) for values in (x, y))
                yield Change(name, {"scorer": scorer}, before, after, moved, "latents", "")


def judged(changes: Iterable[Change]) -> Iterator[Change]:
    """The changes with their verdicts: p-values from the intervals, corrected by Benjamini and Hochberg (1995)."""
    all_changes = list(changes)
    chances = [chance(change.difference) for change in all_changes]
    tested = sorted((p, place) for place, p in enumerate(chances) if math.isfinite(p))
    passing = [rank for rank, (p, _) in enumerate(tested, 1) if p <= (1 - LEVEL) * rank / len(tested)]
    moved = {place for _, place in tested[: max(passing, default=0)]}
    for place, change in enumerate(all_changes):
        value = change.difference.value
        if change.first == change.second:
            yield change._replace(verdict="same")
        elif place in moved:
            yield change._replace(verdict="higher" if value > 0 else "lower")
        else:
            yield change._replace(verdict="unclear" if math.isfinite(chances[place]) else "")


def chance(difference: Estimate) -> float:
    """Two-sided probability of a difference at least this large by chance, its interval taken for a normal one; NaN
    without an interval."""
    reach = (difference.high - difference.low) / 2
    if not math.isfinite(reach):
        return math.nan
    normal = NormalDist()
    error = reach / normal.inv_cdf((1 + LEVEL) / 2)
    if error == 0:
        return 1.0 if difference.value == 0 else 0.0
    return 2 * normal.cdf(-abs(difference.value) / error)


def _pairs(first: RunView, second: RunView) -> Iterator[tuple[Key, Change]]:
    """What can be compared pair by pair, for every kind of explanations that both runs have."""
    for kind in first.kinds:
        if kind in second.kinds:
            named = {} if kind == first.kinds[0] else {"kind": kind}
            for change in _pairs_of(first.of_kind(kind), second.of_kind(kind)):
                full = change._replace(condition={**change.condition, **named})
                yield key_of(full._asdict()), full


def _pairs_of(first: RunView, second: RunView) -> Iterator[Change]:
    """Windows where both runs read the same rows, scores where latents are of the same coder."""
    stages = {stage.name for stage in first.run.pipeline.stages} & {stage.name for stage in second.run.pipeline.stages}
    runs = (first.run, second.run)
    if "reconstruct" in stages and len({run.lineage.stages["tokens"].fingerprint for run in runs}) == 1:
        yield from paired_losses(first.losses.to_pandas(), second.losses.to_pandas())
    if "score" in stages and len({run.config.coder.path for run in runs}) == 1:
        yield from paired_scores(first.scores.to_pandas(), second.scores.to_pandas())
