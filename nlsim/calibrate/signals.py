"""What a prediction says, as numbers that calibrations read. Arrays only: L latents, R reads (positions), C choices."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.metrics.distribution import choice_distribution, choice_mass

FloatArray = npt.NDArray[np.floating]

FLOOR = 1e-6  # probabilities are told apart down to here: about what half-precision log-probabilities resolve


class Signals(NamedTuple):
    """Two readings of each prediction; NaN in both where the prediction failed."""

    expected_LR: npt.NDArray[np.float32]
    """Expected digit 0..9 among the digits; for a binary prediction nine times the probability of "active"."""
    odds_LR: npt.NDArray[np.float32]
    """Log-odds of any activity: log P(digit > 0) - log P(digit = 0)."""


def read_signals(logprobs_LRC: npt.ArrayLike, least_mass: float) -> Signals:
    """Readings of stored log-probabilities of the digits (C = 10) or of inactive/active (C = 2).

    The distribution is taken among the choices; a prediction whose choices hold less than `least_mass` of the
    probability, or that is NaN, failed. Raises ValueError for another number of choices.
    """
    logprobs = np.asarray(logprobs_LRC)
    if logprobs.ndim != 3 or logprobs.shape[-1] not in (2, 10):
        raise ValueError(f"predictions of shape {logprobs.shape} are neither digits (… × 10) nor binary (… × 2)")
    expected_LR = np.empty(logprobs.shape[:2], dtype=np.float32)
    odds_LR = np.empty(logprobs.shape[:2], dtype=np.float32)
    scale = 9 / (logprobs.shape[-1] - 1)
    values_C = np.arange(logprobs.shape[-1]) * scale
    for i, logprobs_RC in enumerate(logprobs):  # one latent at a time keeps the float64 copies small
        share_RC = choice_distribution(logprobs_RC)
        share_RC[~(choice_mass(logprobs_RC) >= least_mass)] = np.nan
        expected_LR[i] = np.clip(share_RC @ values_C, 0, 9)
        odds_LR[i] = _logit(1 - share_RC[:, 0], share_RC[:, 0])
    return Signals(expected_LR, odds_LR)


def logit(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)), p kept in [FLOOR, 1 - FLOOR]."""
    p_N = np.asarray(p, dtype=np.float64)
    return _logit(p_N, 1 - p_N)


def _logit(p_N: npt.NDArray[np.float64], rest_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.log(np.clip(p_N, FLOOR, 1)) - np.log(np.clip(rest_N, FLOOR, 1)))


class Latents(NamedTuple):
    """What is known of each latent before any prediction, from rows other than those calibrated or evaluated on."""

    density_L: npt.NDArray[np.float64]
    """Share of positions at which it is active."""
    active_mean_L: npt.NDArray[np.float64]
    """Mean activation where active; 0 when it never was."""
    robust_max_L: npt.NDArray[np.float64]
    """99.9 % quantile of its activations, position 0 and outlier positions left out."""
    score_L: npt.NDArray[np.float64]
    """Score of its explanation, higher is better; NaN when unknown."""

    @property
    def mean_L(self) -> npt.NDArray[np.float64]:
        """Mean activation over all positions."""
        return self.density_L * self.active_mean_L
