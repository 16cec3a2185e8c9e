"""Are the active latents told from the others? Per read, then averaged over reads, as published and at true prevalence.

The published pool has a read's active latents and a fixed number of inactive ones, so its prevalence is about 5 % where
the dictionary's is 0.04 %. Both are computed from the same pairs, by weight: under `pool: published` the inactive pairs
of a read weigh together as much as the published number of latents, under `pool: all` as much as all that are inactive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.blog.pairs import Floats, Ints, Pairs
from nlsim.metrics.classification import auc, confusion, precision_at
from nlsim.metrics.intervals import Bootstrap, Estimate
from nlsim.metrics.rows import Row, metric_row

CALLED = 0.5
"""Probability from which a latent is called active."""
BEYOND = 1e-3
"""Of the resolution: how far a fitted tail is carried on."""
QUARTILES = {"p25": 0.25, "p50": 0.5, "p75": 0.75}


class Judged(NamedTuple):
    """Rates at each read; NaN where undefined."""

    recall_R: Floats
    specificity_R: Floats
    auc_R: Floats
    precision_R: Floats
    f1_R: Floats
    precision_at_R: Floats
    selected_R: Floats
    """Weight of the pairs called active."""


def pool_weights(pairs: Pairs, published: int | None) -> Floats:
    """Weight of each pair: 1 for active ones; inactive ones of a read together as many as there are, or as `published`
    (if there are so many)."""
    weight_P = np.where(pairs.active_P, 1.0, pairs.weight_P.astype(np.float64))
    if published is None:
        return weight_P
    factor_R = np.divide(
        np.minimum(published, pairs.silent_R), pairs.silent_R, out=np.zeros_like(pairs.silent_R),
        where=pairs.silent_R > 0,
    )  # fmt: skip
    return np.where(pairs.active_P, 1.0, weight_P * factor_R[pairs.read_P])


def judge(pairs: Pairs, weight_P: Floats, top: int) -> Judged:
    """Rates at every read: decisions at probability ½, AUC, precision among the `top` likeliest."""
    rows = []
    starts, active_P = pairs.starts, pairs.active_P
    for read in range(len(pairs.at_R)):
        mine = pairs.at(read, starts)
        truth, probability, weight = active_P[mine], pairs.probability_P[mine], weight_P[mine]
        counts = confusion(truth, probability, weight, CALLED)
        at_top = precision_at(truth, probability, top, weight) if truth.any() else np.nan
        rows.append(
            (counts.recall, counts.specificity, auc(truth, probability), counts.precision, counts.f1, at_top,
             counts.tp + counts.fp)
        )  # fmt: skip
    return Judged(*np.array(rows, np.float64).reshape(-1, len(Judged._fields)).T)


def identification(pairs: Pairs, bootstrap: Bootstrap, active_R: Ints, pool: int, top: int) -> list[Row]:
    """Rows of Table 1 for both pools. `active_R`: active latents at each read, explained or not; `bootstrap` has the
    document of each read."""
    rows: list[Row] = []
    for name, published in (("all", None), ("published", pool)):
        judged = judge(pairs, pool_weights(pairs, published), top)
        condition = {"task": "identify", "pool": name}
        balanced_R = (judged.recall_R + judged.specificity_R) / 2
        rows += _rates("precision", judged.precision_R, bootstrap, condition)
        rows += _rates("f1", judged.f1_R, bootstrap, condition)
        rows += _rates("precision_at", judged.precision_at_R, bootstrap, {**condition, "k": top})
        rows.append(metric_row("selected_per_token", bootstrap.mean(judged.selected_R), "latents", condition))
        if published is None:
            for rate, value_R in (
                ("recall", judged.recall_R), ("specificity", judged.specificity_R), ("auc", judged.auc_R),
                ("balanced_accuracy", balanced_R),
            ):  # fmt: skip
                rows += _rates(rate, value_R, bootstrap, {"task": "identify"})
    found_R = np.bincount(pairs.read_P[pairs.active_P], minlength=len(pairs.at_R)).astype(np.float64)
    failed_R = np.bincount(pairs.read_P[np.isnan(pairs.probability_P)], minlength=len(pairs.at_R)).astype(np.float64)
    asked_R = np.diff(pairs.starts).astype(np.float64)
    task = {"task": "identify"}
    rows.append(metric_row("active_per_token", bootstrap.mean(active_R.astype(np.float64)), "latents", task))
    rows.append(metric_row("explained_active", bootstrap.ratio(found_R, active_R.astype(np.float64)), "share", task))
    rows.append(metric_row("failed", bootstrap.ratio(failed_R, asked_R), "share", task))
    return rows


def recall_by_rank(pairs: Pairs, bootstrap: Bootstrap, bins: int) -> list[Row]:
    """Recall along the rank of activation at the read: 0 is the strongest active latent, 1 the weakest. Reads with one
    active latent have no ranks and are left out."""
    rank_P, hit_P = np.full(len(pairs.latent_P), np.nan), pairs.probability_P >= CALLED
    starts = pairs.starts
    for read in range(len(pairs.at_R)):
        mine = np.arange(starts[read], starts[read + 1])
        mine = mine[pairs.activation_P[mine] > 0]
        if len(mine) > 1:
            order = mine[np.argsort(-pairs.activation_P[mine], kind="stable")]
            rank_P[order] = np.arange(len(mine)) / (len(mine) - 1)
    known_P = np.isfinite(rank_P) & ~np.isnan(pairs.probability_P)
    bin_P = np.minimum((np.nan_to_num(rank_P) * bins).astype(int), bins - 1)
    rows = []
    for number in range(bins):
        mine_P = known_P & (bin_P == number)
        found = _ratio(bootstrap, pairs, hit_P & mine_P, mine_P)
        rows.append(metric_row("recall", found, "share", {"task": "identify", "rank": (number + 0.5) / bins}))
    return rows


def threshold_sweep(pairs: Pairs, bootstrap: Bootstrap, thresholds: Sequence[float]) -> list[Row]:
    """Exact tail counts at thresholds of P(active): recall, false-positive rate, precision and the number selected per
    token, at the true prevalence. `resolution` is the lightest inactive pair's share: a lower rate reads 0, without an
    interval."""
    weight_P = pool_weights(pairs, None) * ~np.isnan(pairs.probability_P)
    truth_P = pairs.active_P
    rows = []
    for threshold in thresholds:
        taken_P = pairs.probability_P >= threshold
        condition = {"task": "identify", "threshold": threshold}
        both = _ratio(bootstrap, pairs, taken_P * weight_P, None)
        rows.append(metric_row("selected_per_token", both, "latents", condition))
        for name, top_P, bottom_P in (
            ("recall", taken_P & truth_P, truth_P),
            ("false_positive_rate", taken_P & ~truth_P, ~truth_P),
            ("precision", taken_P & truth_P, taken_P),
        ):
            found = _ratio(bootstrap, pairs, top_P * weight_P, bottom_P * weight_P)
            if found.value == 0:  # resampling nothing gives nothing: that is no interval
                found = found._replace(low=np.nan, high=np.nan)
            rows.append(metric_row(name, found, "share", condition))
    silent_P = weight_P[~truth_P & (weight_P > 0)]
    finest = float(silent_P.min() / silent_P.sum()) if silent_P.size else np.nan
    rows.append(metric_row("resolution", finest, "share", {"task": "identify"}, int(silent_P.size)))
    return rows


def tail_rows(pairs: Pairs, bootstrap: Bootstrap, thresholds: Sequence[float], tail: float) -> list[Row]:
    """False-positive rates from an exponential tail of the log-odds of inactive pairs, for thresholds beyond the
    likeliest share `tail` of them: rate(t) = tail · exp(−(t − u) / β), with u the log-odds that `tail` exceeds and β
    the mean excess over u (the maximum-likelihood estimate; Smith 1987). Documents are resampled, u is kept. A rate
    below `BEYOND` of what the lightest pair could show is no more than the form of the fit, and left out."""
    mine_P = ~pairs.active_P & ~np.isnan(pairs.probability_P)
    kept = np.clip(pairs.probability_P[mine_P].astype(np.float64), 1e-6, 1 - 1e-6)
    odds_N, weight_N, read_N = (
        np.log(kept / (1 - kept)),
        pairs.weight_P[mine_P].astype(np.float64),
        pairs.read_P[mine_P],
    )
    if not odds_N.size:
        return []
    order = np.argsort(odds_N)
    share = np.cumsum(weight_N[order]) / weight_N.sum()
    u = float(odds_N[order][min(int(np.searchsorted(share, 1 - tail)), len(odds_N) - 1)])
    above_N = odds_N > u
    reads = len(pairs.at_R)
    excess_R = np.bincount(read_N, np.where(above_N, (odds_N - u) * weight_N, 0), minlength=reads)
    over_R = np.bincount(read_N, above_N * weight_N, minlength=reads)
    all_R = np.bincount(read_N, weight_N, minlength=reads)
    if not over_R.sum():
        return []

    def rate(threshold: float, excess: Floats, over: Floats, total: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            reach = np.log(threshold / (1 - threshold)) - u
            return np.asarray(over / total * np.exp(-reach * over / excess))

    rows = []
    for threshold in thresholds:
        if np.log(threshold / (1 - threshold)) <= u:
            continue
        value = rate(threshold, *(np.array([x_R.sum()]) for x_R in (excess_R, over_R, all_R)))
        if value[0] < BEYOND * weight_N.min() / weight_N.sum():
            continue
        drawn = rate(threshold, *(bootstrap.totals(x_R) for x_R in (excess_R, over_R, all_R)))
        found = bootstrap.estimate(float(value[0]), drawn, int(above_N.sum()))
        condition = {"task": "identify", "threshold": threshold, "from": "fitted tail"}
        rows.append(metric_row("false_positive_rate", found, "share", condition))
    return rows


def _ratio(
    bootstrap: Bootstrap, pairs: Pairs, top_P: npt.NDArray[np.generic], bottom_P: npt.NDArray[np.generic] | None
) -> Estimate:
    """Sum over sum, by read, documents resampled; without `bottom_P` the mean over reads."""

    def by_read(x_P: npt.NDArray[np.generic]) -> Floats:
        sums = np.bincount(pairs.read_P, np.asarray(x_P, np.float64), minlength=len(pairs.at_R))
        return sums.astype(np.float64)

    if bottom_P is None:
        return bootstrap.mean(by_read(top_P))
    found = bootstrap.ratio(by_read(top_P), by_read(bottom_P))
    return found._replace(n=int(np.count_nonzero(bottom_P)))


def _rates(name: str, value_R: Floats, bootstrap: Bootstrap, condition: Mapping[str, object]) -> list[Row]:
    """The mean over reads with its interval, and the published spread: quartiles over reads."""
    known_R = value_R[np.isfinite(value_R)]
    rows = [metric_row(name, bootstrap.mean(value_R), "share", condition)]
    for quartile, level in QUARTILES.items():
        value = float(np.quantile(known_R, level)) if known_R.size else np.nan
        rows.append(metric_row(f"{name}_{quartile}", value, "share", condition, int(known_R.size)))
    return rows
