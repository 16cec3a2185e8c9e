"""The data of the latent browser: per latent its explanation, scores, contexts, true and simulated activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nlsim.calibrate.inputs import reads_of, signals_of, truth_at
from nlsim.calibrate.posterior import Posterior
from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.explain.explainer import read_pieces
from nlsim.explain.table import read_explanations
from nlsim.latents.contexts import Contexts, ContextSampler
from nlsim.latents.index import LatentIndex
from nlsim.report.page import Browser
from nlsim.simulate.predictions import Predictions

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.stage import StageContext
    from nlsim.store.artifact import Artifact

SHADES = 99
"""Activations are shown in so many steps of the latent's robust maximum."""
CONTEXT = 24
"""Tokens of a context."""

Float32 = npt.NDArray[np.float32]


def browse(context: StageContext) -> Browser:
    """Records of at most `report.browser_latents` latents, explained ones first, in the order of their numbers."""
    config, inputs = context.config, context.inputs
    settings = config.report
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    pieces = Pieces(read_pieces(inputs["tokens"]))
    sampler = ContextSampler(index, CONTEXT, config.seed)
    explained = read_explanations(inputs["explain"])
    kept = sorted(explained, key=lambda one: one.status != "ok")[: settings.browser_latents]
    scores = score_records(inputs["score"])
    calibrated = config.simulate.pool is None  # else only a sample was asked about, and nothing is drawn of it
    judged = {row["latent"]: row for row in inputs["calibrate"].table(0, "latents").to_pylist()} if calibrated else {}
    windows = Simulated(config, context, index, pieces) if calibrated else None
    density_M = index.table.density()
    latents, details = [], {}
    for done, explanation in enumerate(sorted(kept)):
        latent = explanation.latent
        mine = scores.get(latent, [])
        facts = judged.get(latent, {})
        values = [score["value"] for score in mine if score["value"] is not None]
        latents.append(
            {
                "id": latent,
                "text": explanation.text if explanation.status == "ok" else "",
                "status": explanation.status,
                "density": rounded(float(density_M[latent])),
                "score": values[0] if values else None,
                "auc": rounded(facts.get("auc")),
                "scores": {score["name"]: score["value"] for score in mine},
            }
        )
        scale = float(index.table.robust_max_M[latent])
        top = sampler.draw(latent, Split.EXPLAIN, settings.contexts, "top")
        spread = sampler.draw(latent, Split.EXPLAIN, settings.quantile_contexts, "quantiles")
        details[latent] = {
            "mean": rounded(facts.get("active_mean")),
            "max": rounded(scale),
            "scores": mine,
            "reads": windows.reads if windows is not None else 0,
            "windows_n": windows.count if windows is not None else 0,
            "top": contexts(top, pieces, scale),
            "quantiles": contexts(spread, pieces, scale),
            "windows": windows.of(latent, scale, settings.windows) if windows is not None else [],
        }
        context.progress(done + 1, len(kept), "latents")
    return Browser(latents, details)


class Simulated:
    """True and simulated (posterior mean) activations on the evaluation windows."""

    def __init__(self, config: Config, context: StageContext, index: LatentIndex, pieces: Pieces) -> None:
        predictions = Predictions(context.inputs["simulate"])
        reads = reads_of(predictions, context.inputs["tokens"])
        posterior = Posterior.from_arrays(context.inputs["calibrate"].arrays(0, "posterior"))
        mine = np.flatnonzero(reads.split_R == Split.EVALUATE)
        signals = signals_of(predictions, config.calibrate.least_mass)
        self.place = {latent: place for place, latent in enumerate(predictions.latents.tolist())}
        self.said_LR = posterior.values(signals)[:, mine]
        self.true_LR = truth_at(index, predictions.latents, reads.at_R[mine])
        self.reads = len(mine)
        self._window_R = predictions.windows.window_R[mine]
        self._first = np.flatnonzero(np.diff(self._window_R, prepend=-1))
        self.count = len(self._first)
        self._ids_R = index.rows.ids(reads.at_R[mine])
        self._strings: Callable[[npt.NDArray[np.int64]], list[str]] = pieces.strings

    def of(self, latent: int, scale: float, count: int) -> list[dict[str, Any]]:
        """The windows that say most of a latent: half where it is most active, half where it is most simulated."""
        if latent not in self.place or not count or not self.count:
            return []
        true_R, said_R = self.true_LR[self.place[latent]], self.said_LR[self.place[latent]]
        true_N, said_N = (np.add.reduceat(x_R, self._first) for x_R in (true_R, said_R))
        order = [*np.argsort(-true_N, kind="stable")[: (count + 1) // 2].tolist()]
        order += [n for n in np.argsort(-said_N, kind="stable").tolist() if n not in order][: count - len(order)]
        ends = [*self._first[1:].tolist(), len(self._window_R)]
        return [
            {
                "max": rounded(scale),
                "tokens": self._strings(self._ids_R[self._first[n] : ends[n]]),
                "true": shades(true_R[self._first[n] : ends[n]], scale),
                "said": shades(said_R[self._first[n] : ends[n]], scale),
            }
            for n in order
        ]


def contexts(found: Contexts, pieces: Pieces, scale: float) -> list[dict[str, Any]]:
    """Contexts as token texts and shades."""
    return [
        {
            "max": rounded(scale),
            "tokens": pieces.strings(found.tokens_NL[n, :length]),
            "values": shades(found.activation_NL[n, :length], scale),
        }
        for n, length in enumerate(found.length_N.tolist())
    ]


def shades(value_N: npt.NDArray[np.floating], scale: float) -> list[int]:
    """Activations in steps of `scale` / 99, at least 1 where there is any."""
    steps_N = np.ceil(SHADES * np.clip(value_N / max(scale, 1e-12), 0, 1) - 1e-6).astype(int)
    return [int(step) for step in steps_N]


def rounded(value: float | None) -> float | None:
    """Four significant digits; None for what is not known."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def score_records(score: Artifact) -> dict[int, list[dict[str, Any]]]:
    """The scores of each latent: name of the scorer, value with interval, n, failed answers."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in score.tables("scores").to_pylist():
        found.setdefault(row["latent"], []).append(
            {
                "name": row["scorer"],
                "value": rounded(row["balanced_accuracy"]),
                "low": rounded(row["low"]),
                "high": rounded(row["high"]),
                "n": row["n_pos"] + row["n_neg"],
                "failed": row["failed"],
            }
        )
    return found
