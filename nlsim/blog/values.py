"""How strong are the active latents? Expected digits against the place of true activations, by value and by rank.

Each latent's activations (those of the splits that explanations and scores come from) make two grids: `value`, even
steps between its least and its largest activation, and `quantile`, even steps of their distribution. A true
activation's nearest grid point, rescaled to 0..9, is what the expected digit is compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from nlsim.blog.pairs import Floats, Pairs
from nlsim.calibrate.inputs import KNOWN
from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row

if TYPE_CHECKING:
    from nlsim.latents.index import LatentIndex

LEAST_KNOWN = 10
"""Known activations that a latent needs for its grids."""


class Places(NamedTuple):
    """Active pairs with an answer, and where their activation is, 0..9."""

    expected_A: Floats
    value_A: Floats
    quantile_A: Floats
    read_A: npt.NDArray[np.int64]


def places(pairs: Pairs, index: LatentIndex, grid: int) -> Places:
    """The active pairs whose latent has enough known activations and whose answer did not fail."""
    known_R = np.isin(index.rows.split_R, [int(split) for split in KNOWN])
    mine = np.flatnonzero(pairs.active_P & ~np.isnan(pairs.expected_P))
    value_P, quantile_P = np.full((2, len(pairs.latent_P)), np.nan)
    order = mine[np.argsort(pairs.latent_P[mine], kind="stable")]
    cuts = np.flatnonzero(np.diff(pairs.latent_P[order])) + 1
    for group in np.split(order, cuts):
        if not len(group):
            continue
        found = index.activations(int(pairs.latent_P[group[0]]))
        known = np.sort(found.value[known_R[found.row]].astype(np.float64))
        if len(known) >= LEAST_KNOWN and known[0] < known[-1]:
            value_P[group], quantile_P[group] = grid_places(pairs.activation_P[group], known, grid)
    kept = mine[np.isfinite(value_P[mine])]
    return Places(pairs.expected_P[kept].astype(np.float64), value_P[kept], quantile_P[kept], pairs.read_P[kept])


def grid_places(activation_N: npt.ArrayLike, known: Floats, grid: int) -> tuple[Floats, Floats]:
    """Nearest points of the value grid and of the quantile grid, as 0..9. `known` ascends."""
    value_N = np.asarray(activation_N, np.float64)
    scaled_N = np.clip((value_N - known[0]) / (known[-1] - known[0]), 0, 1)
    twice_N = np.searchsorted(known, value_N, "left") + np.searchsorted(known, value_N, "right")
    level_N = np.clip((twice_N - 1) / 2 / (len(known) - 1), 0, 1)
    first, second = (np.round(x_N * (grid - 1)) * 9 / (grid - 1) for x_N in (scaled_N, level_N))
    return first, second


def value_rows(found: Places, bootstrap: Bootstrap) -> list[Row]:
    """Rows of Table 2 and of the curves of Figure 4: correlations, accuracy with that of chance, means by digit.
    `bootstrap` has the document of each pair of `found`."""
    rows: list[Row] = []
    digit_A = np.round(found.expected_A)
    for target, place_A in (("value", found.value_A), ("quantile", found.quantile_A)):
        condition = {"task": "value", "target": target}
        rows.append(
            metric_row("correlation", bootstrap.correlation(found.expected_A, place_A), "correlation", condition)
        )
        ranks = (rankdata(found.expected_A), rankdata(place_A)) if len(place_A) else (place_A, place_A)
        rows.append(metric_row("rank_correlation", bootstrap.correlation(*ranks), "correlation", condition))
        rounded_A = np.round(place_A)
        hit = bootstrap.mean((digit_A == rounded_A).astype(np.float64))
        rows.append(metric_row("accuracy", hit, "share", condition))
        shares = [np.bincount(x_A.astype(int), minlength=10) / max(len(x_A), 1) for x_A in (digit_A, rounded_A)]
        rows.append(
            metric_row("accuracy", float(shares[0] @ shares[1]), "share", {**condition, "by": "chance"}, len(hit))
        )
        for digit in np.unique(digit_A).tolist():
            mean = bootstrap.mean(np.where(digit_A == digit, place_A, np.nan))
            rows.append(metric_row("mean_place", mean, "tenths", {**condition, "digit": int(digit)}))
    return rows


def heat_counts(found: Places) -> dict[str, Floats]:
    """[digit, place] counts of the active pairs for both targets, both rounded to 0..9."""
    digit_A = np.round(found.expected_A).astype(int)
    counts = {}
    for target, place_A in (("value", found.value_A), ("quantile", found.quantile_A)):
        flat = np.bincount(digit_A * 10 + np.round(place_A).astype(int), minlength=100)
        counts[target] = flat.reshape(10, 10).astype(np.float64)
    return counts
