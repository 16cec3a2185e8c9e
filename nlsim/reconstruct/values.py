"""Values of all latents under study at some reads, for every kind of condition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nlsim.calibrate.linear import linear_values
from nlsim.calibrate.posterior import Posterior
from nlsim.calibrate.quantile import QuantileMap
from nlsim.calibrate.signals import Signals, read_signals
from nlsim.calibrate.token_mean import TokenTable
from nlsim.reconstruct.conditions import SIMULATED, permuted, with_policy
from nlsim.reconstruct.config import Values

if TYPE_CHECKING:
    from nlsim.simulate.predictions import Predictions
    from nlsim.store.artifact import Artifact

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


class Stand:
    """What the run knows to put in place of true activations, at the reads of one shard.

    Columns are the latents under study, ascending. Opening it reads the predictions of these reads: 8 bytes per latent
    and read.
    """

    def __init__(self, calibrate: Artifact, predictions: Predictions, reads: Int, least_mass: float, unexplained: str):
        known = calibrate.arrays(0, "latents")
        self.latent_L: Int = np.asarray(known["latent"], np.int64)
        self.mean_L = np.asarray(known["mean"], np.float64)
        self.score_L = np.asarray(known["score"], np.float64)
        self.unexplained = unexplained
        self._place_L = np.asarray(known["predicted"], np.int64)
        self._order = np.asarray(known["shuffled"], np.int64)
        self._robust_max = np.asarray(known["robust_max"], np.float64)[self._place_L >= 0]
        self._posterior = Posterior.from_arrays(calibrate.arrays(0, "posterior"))
        self._refitted = Posterior.from_arrays(calibrate.arrays(0, "refitted"))
        self._quantile = QuantileMap(**calibrate.arrays(0, "quantile"))
        self._tokens = TokenTable.from_arrays(calibrate.arrays(0, "token_mean"))
        self._signals = _signals(predictions, reads, least_mass)

    def values(self, kind: Values, truth_NL: Float32, some: slice, ids_N: Int, at_N: Int, seed: int) -> Float32:
        """[N, L] activations for a kind of condition.

        `some`: which of the reads the N positions are; `truth_NL`: their true activations; `ids_N`: their tokens;
        `at_N`: their global positions.
        """
        if kind in SIMULATED:
            predicted_L = self._place_L >= 0
            value_NL = np.zeros_like(truth_NL)
            value_NL[:, predicted_L] = self._simulated(kind, some).T
            failed_NL = np.isnan(value_NL)
            value_NL = np.where(failed_NL, self.mean_L.astype(np.float32), value_NL)
            return with_policy(value_NL, predicted_L, self.unexplained, self.mean_L, truth_NL)
        if kind == "zero":
            return np.zeros_like(truth_NL)
        if kind == "mean":
            return np.broadcast_to(self.mean_L.astype(np.float32), truth_NL.shape)
        if kind == "token_mean":
            return self._tokens.values(ids_N)
        if kind == "random":
            return permuted(truth_NL, at_N, seed)
        return truth_NL

    def _simulated(self, kind: Values, some: slice) -> Float32:
        """[predicted latents, N]; NaN where a prediction failed and the map has no answer to that."""
        own = Signals(self._signals.expected_LR[:, some], self._signals.odds_LR[:, some])
        if kind == "linear":
            return linear_values(own.expected_LR, self._robust_max)
        if kind == "quantile":
            return self._quantile.values(own.expected_LR)
        if kind == "posterior":
            return self._posterior.values(own)
        wrong = Signals(own.expected_LR[self._order], own.odds_LR[self._order])
        return (self._refitted if kind == "shuffled_refitted" else self._posterior).values(wrong)


def _signals(predictions: Predictions, reads: Int, least_mass: float) -> Signals:
    place = {latent: i for i, latent in enumerate(predictions.latents.tolist())}
    expected_LR, odds_LR = np.empty((2, len(place), len(reads)), np.float32)
    for tile in predictions.tiles():
        signals = read_signals(np.asarray(tile.logprobs_LRC)[:, reads], least_mass)
        here = [place[latent] for latent in tile.latent_L.tolist()]
        expected_LR[here], odds_LR[here] = signals
    return Signals(expected_LR, odds_LR)
