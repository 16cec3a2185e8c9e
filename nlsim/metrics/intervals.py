"""Intervals: Wilson for proportions, DeLong for AUC, and the bootstrap over documents for everything else.

Tokens of one document are alike, so the unit that is resampled is the document (cluster), never the token. One
`Bootstrap` object holds one set of resamples: every statistic computed from it sees the same documents in the same
draw, which is what makes a difference of two conditions *paired*.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.metrics.arrays import FloatArray, IntArray, answered, ratio, weights_like


class Estimate(NamedTuple):
    """A value with its interval."""

    value: float
    low: float
    high: float
    """NaN bounds: the data cannot say (a single document, a ratio whose denominator may be 0)."""
    n: int
    """Members it was computed from (tokens, windows, pairs), failures left out."""


def normal_quantile(level: float) -> float:
    """The standard normal's quantile."""
    return NormalDist().inv_cdf(level)


def wilson_bounds(rate: npt.ArrayLike, n: npt.ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Wilson's score interval (Wilson 1927) for proportions `rate` of `n` trials, elementwise; (0, 1) where n is 0."""
    n_N = np.asarray(n, dtype=np.float64)
    rate_N = np.where(n_N > 0, np.asarray(rate, dtype=np.float64), 0.5)
    z2 = normal_quantile((1 + level) / 2) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        centre_N = (n_N * rate_N + z2 / 2) / (n_N + z2)
        half_N = np.sqrt(z2 * (n_N * rate_N * (1 - rate_N) + z2 / 4)) / (n_N + z2)
    # the bounds enclose the rate; rounding must not say otherwise at 0 and 1
    return np.clip(centre_N - half_N, 0, rate_N), np.clip(centre_N + half_N, rate_N, 1)


def wilson(successes: float, n: float, level: float = 0.95) -> Estimate:
    """A proportion with Wilson's interval. Valid down to n = 0, where it is (NaN, 0, 1)."""
    low, high = wilson_bounds(ratio(successes, n), n, level)
    return Estimate(ratio(successes, n), float(low), float(high), round(n))


def mean_of_rates(first: Estimate, second: Estimate) -> Estimate:
    """Mean of two independent proportions (balanced accuracy from recall and specificity), by the square-and-add method
    (Newcombe 1998): distances from each value to its Wilson bounds add in squares, so bounds stay inside [0, 1]."""
    value = (first.value + second.value) / 2
    down = np.hypot(first.value - first.low, second.value - second.low) / 2
    up = np.hypot(first.high - first.value, second.high - second.value) / 2
    return Estimate(value, float(value - down), float(value + up), first.n + second.n)


def delong(truth: npt.ArrayLike, score: npt.ArrayLike, level: float = 0.95) -> Estimate:
    """AUC with DeLong's interval (DeLong et al. 1988, by midranks as in Sun & Xu 2014), formed on the logit scale so
    that it stays inside [0, 1]. Members must be independent; for tokens of documents use `Bootstrap.auc`. At an AUC of
    exactly 0 or 1 the variance estimate is 0, and the bound used instead is the rule of three's: 1 - alpha^(1/n) of the
    smaller class.
    """
    truth_N, score_N, _, _ = answered(truth, score)
    active_P, inactive_Q = score_N[truth_N], score_N[~truth_N]
    positives, negatives = active_P.size, inactive_Q.size
    if not positives or not negatives:
        return Estimate(float("nan"), float("nan"), float("nan"), score_N.size)
    # placements: for each member, the share of the other class it beats (ties one half)
    place_P = _placements(active_P, inactive_Q)
    place_Q = 1 - _placements(inactive_Q, active_P)
    value = float(place_P.mean())
    if value in (0.0, 1.0):
        reach = float(1 - (1 - level) ** (1 / min(positives, negatives)))
        low, high = (0.0, reach) if value == 0 else (1 - reach, 1.0)
        return Estimate(value, low, high, score_N.size)
    spread_P = place_P.var(ddof=1) / positives if positives > 1 else np.nan
    spread_Q = place_Q.var(ddof=1) / negatives if negatives > 1 else np.nan
    half = normal_quantile((1 + level) / 2) * np.sqrt(spread_P + spread_Q) / (value * (1 - value))
    centre = np.log(value / (1 - value))
    low, high = (1 / (1 + np.exp(-(centre + sign * half))) for sign in (-1, 1))
    return Estimate(value, float(low), float(high), score_N.size)


def _placements(score_N: FloatArray, other_M: FloatArray) -> FloatArray:
    """Share of `other_M` below each score, equal ones counted half."""
    sorted_M = np.sort(other_M)
    below_N = np.searchsorted(sorted_M, score_N, side="left")
    upto_N = np.searchsorted(sorted_M, score_N, side="right")
    return (below_N + upto_N) / (2 * other_M.size)


class Bootstrap:
    """Resamples of clusters (documents) with replacement, drawn once and used for every statistic.

    `cluster_N` names the cluster of each member. Intervals are percentile intervals widened for few clusters (the
    "expanded percentile" of Hesterberg 2015: the percentiles are those that a t interval with C - 1 degrees of freedom
    would have under the normal), so that 10 documents do not pass for many. With one cluster the bounds are NaN.
    """

    def __init__(self, cluster_N: npt.ArrayLike, draws: int = 2000, seed: int = 0, level: float = 0.95) -> None:
        names, index_N = np.unique(np.asarray(cluster_N), return_inverse=True)
        self.clusters = int(names.size)
        self.index_N: IntArray = index_N.ravel().astype(np.int64)
        self.tail = _expanded_tail(self.clusters, level)
        generator = np.random.default_rng(seed)
        uniform = np.full(self.clusters, 1 / max(self.clusters, 1))
        counts = generator.multinomial(self.clusters, uniform, size=draws) if self.clusters else np.zeros((draws, 0))
        self.counts_RC: FloatArray = counts.astype(np.float64)
        """How often each draw holds each cluster."""

    def mean(self, value: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Estimate:
        """Weighted mean over members, clusters resampled. NaN values are left out."""
        value_N = np.asarray(value, dtype=np.float64).ravel()
        weight_N = weights_like(value_N, weight)
        return self.ratio(value_N, np.where(np.isnan(value_N), np.nan, 1.0), weight_N)

    def difference(self, first: npt.ArrayLike, second: npt.ArrayLike) -> Estimate:
        """Mean of `first - second`, paired member by member; a pair with a NaN is left out on both sides."""
        return self.mean(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64))

    def ratio(
        self, numerator: npt.ArrayLike, denominator: npt.ArrayLike, weight: npt.ArrayLike | None = None
    ) -> Estimate:
        """Sum of `numerator` over sum of `denominator`, clusters resampled. Members with a NaN in either are left out.

        When the denominator's own interval holds 0 the ratio has no bounded interval, and its bounds are NaN.
        """
        top_N = np.asarray(numerator, dtype=np.float64).ravel()
        bottom_N = np.asarray(denominator, dtype=np.float64).ravel()
        weight_N = weights_like(top_N, weight)
        kept_N = ~(np.isnan(top_N) | np.isnan(bottom_N))
        top_C = self._sums(np.where(kept_N, top_N, 0.0) * weight_N)
        bottom_C = self._sums(np.where(kept_N, bottom_N, 0.0) * weight_N)
        value = ratio(float(top_C.sum()), float(bottom_C.sum()))
        top_R, bottom_R = self.counts_RC @ top_C, self.counts_RC @ bottom_C
        safe_R = bottom_R[(bottom_R * np.sign(bottom_C.sum())) > 0]
        members = int(kept_N.sum())
        if safe_R.size < bottom_R.size * (1 - self.tail):
            return Estimate(value, float("nan"), float("nan"), members)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.estimate(value, top_R / bottom_R, members)

    def auc(self, truth: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Estimate:
        """AUC (midranks) with clusters resampled. NaN scores are left out."""
        score_N = np.asarray(score, dtype=np.float64).ravel()
        kept_N = ~np.isnan(score_N)
        truth_N = np.asarray(truth).astype(bool).ravel()[kept_N]
        weight_N = weights_like(score_N, weight)[kept_N]
        cluster_N, score_N = self.index_N[kept_N], score_N[kept_N]
        # pairs_CD: weighted wins of the actives of cluster C over the inactives of cluster D; a draw's AUC is a
        # quadratic form
        pairs_CD, active_C, inactive_D = _cluster_wins(truth_N, score_N, weight_N, cluster_N, self.clusters)
        value = ratio(float(pairs_CD.sum()), float(active_C.sum() * inactive_D.sum()))
        wins_R = np.einsum("rc,cd,rd->r", self.counts_RC, pairs_CD, self.counts_RC, optimize=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            auc_R = wins_R / ((self.counts_RC @ active_C) * (self.counts_RC @ inactive_D))
        return self.estimate(value, auc_R, score_N.size)

    def correlation(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Estimate:
        """Pearson's correlation, clusters resampled. Pairs with a NaN are left out; NaN when either is constant. Of
        midranks it is Spearman's."""
        x_N, y_N = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
        kept_N = ~(np.isnan(x_N) | np.isnan(y_N))
        members = int(kept_N.sum())
        if not members:
            return Estimate(float("nan"), float("nan"), float("nan"), 0)
        # centred and scaled first: moments of large numbers lose their digits
        x_N, y_N = ((v_N - v_N[kept_N].mean()) / float(v_N[kept_N].std() or 1.0) for v_N in (x_N, y_N))
        x_N, y_N = (np.where(kept_N, v_N, 0.0).astype(np.float64) for v_N in (x_N, y_N))
        one_N = kept_N.astype(np.float64)
        moments = [self._sums(m_N) for m_N in (one_N, x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N)]
        value = _correlation_of(*(m_C.sum(keepdims=True) for m_C in moments))
        return self.estimate(float(value[0]), _correlation_of(*(self.counts_RC @ m_C for m_C in moments)), members)

    def totals(self, value: npt.ArrayLike) -> FloatArray:
        """Sum of a quantity over the members, in each draw."""
        return self.counts_RC @ self._sums(np.asarray(value, dtype=np.float64).ravel())

    def estimate(self, value: float, draws_R: FloatArray, members: int) -> Estimate:
        """An estimate whose interval comes from a statistic's values in the draws; undefined draws are left out."""
        finite_R = draws_R[np.isfinite(draws_R)]
        if self.clusters < 2 or not finite_R.size or np.isnan(value):
            return Estimate(value, float("nan"), float("nan"), members)
        low, high = np.quantile(finite_R, [self.tail, 1 - self.tail])
        return Estimate(value, float(low), float(high), members)

    def _sums(self, value_N: FloatArray) -> FloatArray:
        if value_N.shape != self.index_N.shape:
            raise ValueError(f"{value_N.size} values for {self.index_N.size} members")
        return np.asarray(np.bincount(self.index_N, value_N, minlength=self.clusters), dtype=np.float64)


def _correlation_of(
    n: FloatArray, x: FloatArray, y: FloatArray, xx: FloatArray, yy: FloatArray, xy: FloatArray
) -> FloatArray:
    """Pearson's correlation from a count and sums; NaN where either does not vary."""
    with np.errstate(invalid="ignore", divide="ignore"):
        spread_x, spread_y = n * xx - x**2, n * yy - y**2
        varies = (spread_x > 1e-9 * n * xx) & (spread_y > 1e-9 * n * yy)
        found = (n * xy - x * y) / np.sqrt(np.where(varies, spread_x * spread_y, np.nan))
    return np.asarray(np.clip(found, -1, 1))


def _expanded_tail(clusters: int, level: float) -> float:
    """The tail probability alpha'/2 = Phi(-sqrt(C / (C - 1)) t_{C-1}) of Hesterberg's expanded percentile interval."""
    if clusters < 2:
        return 0.0
    from scipy.stats import t

    reach = np.sqrt(clusters / (clusters - 1)) * t.ppf((1 + level) / 2, clusters - 1)
    return NormalDist().cdf(-float(reach))


def _cluster_wins(
    truth_N: npt.NDArray[np.bool_], score_N: FloatArray, weight_N: FloatArray, cluster_N: IntArray, clusters: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted wins (ties half) of actives over inactives by pair of clusters [C, C], and the classes' weight by
    cluster."""
    active_C = np.zeros(clusters)
    inactive_C = np.zeros(clusters)
    np.add.at(active_C, cluster_N[truth_N], weight_N[truth_N])
    np.add.at(inactive_C, cluster_N[~truth_N], weight_N[~truth_N])
    wins_CD = np.zeros((clusters, clusters))
    for other in range(clusters):
        rival_N = ~truth_N & (cluster_N == other)
        order_Q = np.argsort(score_N[rival_N])
        sorted_Q = score_N[rival_N][order_Q]
        mass_Q = np.append(0.0, np.cumsum(weight_N[rival_N][order_Q]))
        own = score_N[truth_N]
        beaten = (mass_Q[np.searchsorted(sorted_Q, own, "left")] + mass_Q[np.searchsorted(sorted_Q, own, "right")]) / 2
        wins_CD[:, other] = np.bincount(cluster_N[truth_N], beaten * weight_N[truth_N], minlength=clusters)
    return wins_CD, active_C, inactive_C
