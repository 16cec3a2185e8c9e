"""Do the scores of explanations predict how well they simulate? Over latents: means by score, and rank correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from nlsim.blog.identify import CALLED
from nlsim.blog.pairs import Floats, Ints, Pairs
from nlsim.metrics.classification import auc
from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row


class LatentQuality(NamedTuple):
    """How well each latent is told active from inactive; NaN where it was never the one or the other."""

    latent_L: Ints
    active_L: Floats
    """Reads at which it is active."""
    recall_L: Floats
    """Share of its active pairs called active."""
    specificity_L: Floats
    """Share of its inactive pairs, by weight, called inactive."""
    auc_L: Floats


def latent_quality(pairs: Pairs) -> LatentQuality:
    """Over all pairs of each latent, failed answers left out."""
    answered_P = ~np.isnan(pairs.probability_P)
    latent_L, place_P = np.unique(pairs.latent_P, return_inverse=True)
    size = len(latent_L)
    called_P, active_P = (pairs.probability_P >= CALLED) & answered_P, pairs.active_P & answered_P
    silent_P = ~pairs.active_P & answered_P

    def share(top_P: npt.NDArray[np.bool_], bottom_P: npt.NDArray[np.bool_]) -> Floats:
        top_L, bottom_L = (np.bincount(place_P, x_P * pairs.weight_P, minlength=size) for x_P in (top_P, bottom_P))
        return np.divide(top_L, bottom_L, out=np.full(size, np.nan), where=bottom_L > 0)

    order = np.argsort(place_P, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(place_P, minlength=size))[:-1]) if size else []
    auc_L = np.array([auc(pairs.active_P[g], pairs.probability_P[g], pairs.weight_P[g]) for g in groups], np.float64)
    return LatentQuality(
        latent_L,
        np.bincount(place_P, active_P, minlength=size).astype(np.float64),
        share(called_P & active_P, active_P),
        share(~called_P & silent_P, silent_P),
        auc_L,
    )


def predictive_rows(quality: LatentQuality, scores: Mapping[str, Floats], density_L: Floats, bins: int) -> list[Row]:
    """For each scorer and each quality: rank correlation, the same with density held fixed, and the partial dependence
    on the score: means by bins of the score, adjusted by a least-squares fit of the bins and of the logarithm of
    density (linear and squared) to what they would be at the mean density. Latents are resampled.

    `scores` and `density_L` are in the order of `quality.latent_L`.
    """
    rows: list[Row] = []
    frequency_L = np.log10(np.maximum(density_L, 1e-7))
    for scorer, score_L in scores.items():
        for name, value_L in (
            ("recall", quality.recall_L), ("specificity", quality.specificity_L), ("auc", quality.auc_L),
        ):  # fmt: skip
            known = np.isfinite(score_L) & np.isfinite(value_L)
            condition = {"task": "predict", "scorer": scorer, "quality": name}
            bootstrap = Bootstrap(np.arange(int(known.sum())))
            if int(known.sum()) < 3:
                continue
            score, value, frequency = score_L[known], value_L[known], frequency_L[known]
            ranks = [rankdata(column) for column in (score, value, frequency)]
            found = bootstrap.correlation(ranks[0], ranks[1])
            rows.append(metric_row("rank_correlation", found, "correlation", condition))
            rest = [_residual(column, ranks[2]) for column in ranks[:2]]
            partial = bootstrap.correlation(*rest)
            rows.append(metric_row("rank_correlation", partial, "correlation", {**condition, "given": "density"}))
            number = np.minimum((score * bins).astype(int), bins - 1)
            adjusted = adjust(value, number, np.stack([frequency, frequency**2], axis=1))
            for place in np.unique(number).tolist():
                centre = {**condition, "score": round((place + 0.5) / bins, 4)}
                for given, column in ((None, value), ("density", adjusted)):
                    mean = bootstrap.mean(np.where(number == place, column, np.nan))
                    rows.append(
                        metric_row("quality", mean, "share", centre if given is None else {**centre, "given": given})
                    )
    return rows


def adjust(value_N: Floats, bin_N: Ints, covariate_NC: Floats) -> Floats:
    """Values moved to the mean of the covariates, along the slopes of a least-squares fit with one level per bin."""

    def within(x_N: Floats) -> Floats:
        size = np.bincount(bin_N)
        return np.asarray(x_N - (np.bincount(bin_N, x_N) / np.maximum(size, 1))[bin_N])

    inside_NC = np.stack([within(column) for column in covariate_NC.T], axis=1)
    slope_C = np.linalg.lstsq(inside_NC, within(value_N), rcond=None)[0]
    return np.asarray(value_N - (covariate_NC - covariate_NC.mean(0)) @ slope_C)


def _residual(value_N: Floats, given_N: Floats) -> Floats:
    centred = given_N - given_N.mean()
    spread = float(centred @ centred)
    slope = float(centred @ value_N) / spread if spread else 0.0
    return np.asarray(value_N - value_N.mean() - slope * centred)
