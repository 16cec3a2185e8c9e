"""Carrying out the stage `calibrate`: fit on the calibrate split, judge on the evaluate split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nlsim.calibrate.inputs import (
    Reads,
    active_quantiles,
    choice_mass_of,
    latents_known,
    reads_of,
    scores_of,
    signals_of,
    token_table,
    truth_at,
)
from nlsim.calibrate.linear import linear_values
from nlsim.calibrate.posterior import Posterior, fit_posterior
from nlsim.calibrate.quality import Judged, judge_digits, judge_probabilities, judge_values
from nlsim.calibrate.quantile import QuantileMap, fit_quantile_map
from nlsim.calibrate.signals import Latents, Signals
from nlsim.corpus.splits import Split
from nlsim.errors import DataError
from nlsim.latents.index import LatentIndex
from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row
from nlsim.simulate.predictions import Predictions

if TYPE_CHECKING:
    import pyarrow

    from nlsim.calibrate.config import CalibrateConfig
    from nlsim.calibrate.token_mean import TokenTable
    from nlsim.pipeline.stage import StageContext

Int = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
STEPS = 5


class Maps(NamedTuple):
    """Everything that turns predictions of the predicted latents into values."""

    posterior: Posterior
    refitted: Posterior
    """Fitted on predictions under another latent's explanation: what those say of every latent alike."""
    quantile: QuantileMap
    robust_max_L: npt.NDArray[np.float64]
    order_L: Int
    """For each latent the place of the one whose predictions the shuffled control uses."""


def calibrate(context: StageContext) -> None:
    """Fit and judge; see `Calibrate` for what is written. Raises DataError when nothing was predicted."""
    config, inputs = context.config, context.inputs
    settings = config.calibrate
    index = LatentIndex(inputs["tokens"], inputs["cache"], inputs["index"])
    predictions = Predictions(inputs["simulate"])
    chosen, predicted = np.array(sorted(predictions.status), np.int64), predictions.latents
    if not len(predicted):
        why = ", ".join(f"{count} {status}" for status, count in Counter(predictions.status.values()).most_common())
        raise DataError(f"no latent has an explanation ({why})", "docs/explain.md says what each status means")
    reads = reads_of(predictions, inputs["tokens"])
    fit_R, judge_R = (np.flatnonzero(reads.split_R == split) for split in (Split.CALIBRATE, Split.EVALUATE))
    known = latents_known(index, chosen, scores_of(inputs["score"], chosen))
    place_L = np.searchsorted(chosen, predicted)
    own = Latents(*(column[place_L] for column in known))
    context.progress(1, STEPS, "steps")

    signals = signals_of(predictions, settings.least_mass)
    truth_LR = truth_at(index, predicted, reads.at_R)
    order_L = np.searchsorted(predicted, predictions.shuffled)
    norm_L = index.table.decoder_norm_M[predicted]
    context.progress(2, STEPS, "steps")
    maps = fit_maps(
        at_reads(signals, fit_R),
        truth_LR[:, fit_R],
        own,
        active_quantiles(index, predicted),
        order_L,
        norm_L,
        settings,
        config.seed,
    )
    context.progress(3, STEPS, "steps")
    table = _token_table(index, chosen, known, reads, settings)
    context.progress(4, STEPS, "steps")
    judged_reads = Reads(*(column[judge_R] for column in reads))
    rows, diagrams, columns = judge(
        at_reads(signals, judge_R), truth_LR[:, judge_R], own, maps, judged_reads, norm_L, settings
    )
    bootstrap = Bootstrap(reads.document_R)
    rows.append(metric_row("choice_mass", bootstrap.mean(choice_mass_of(predictions)), "probability", {}))
    rows.append(metric_row("token_mean_prior", table.prior, "tokens", {}))
    rows.append(metric_row("predicted_latents", len(predicted), "latents", {}, len(chosen)))

    output = context.output
    at_L = np.full(len(chosen), -1, np.int64)
    at_L[place_L] = np.arange(len(predicted))
    facts = {name.removesuffix("_L"): column for name, column in known._asdict().items()}
    output.arrays("latents", {"latent": chosen, "mean": known.mean_L, "predicted": at_L, "shuffled": order_L, **facts})
    output.arrays("posterior", maps.posterior.to_arrays())
    output.arrays("refitted", maps.refitted.to_arrays())
    output.arrays("quantile", maps.quantile._asdict())
    output.arrays("token_mean", table.to_arrays())
    output.table("latents", _latents_table(predicted, own, maps, columns))
    output.table("reliability", _reliability_table(diagrams))
    output.json("metrics", rows)
    output.count(latents=len(chosen), predicted=len(predicted), reads=len(reads.at_R))


def at_reads(signals: Signals, chosen: Int) -> Signals:
    """The signals at some reads."""
    return Signals(signals.expected_LR[:, chosen], signals.odds_LR[:, chosen])


def of_latents(signals: Signals, order: Int) -> Signals:
    """The signals of some latents, in the given order."""
    return Signals(signals.expected_LR[order], signals.odds_LR[order])


def fit_maps(
    signals: Signals,
    truth_LR: Float32,
    own: Latents,
    active_LV: Float32,
    order_L: Int,
    norm_L: Float32,
    settings: CalibrateConfig,
    seed: int,
) -> Maps:
    """Fit all maps on the calibration reads; `norm_L` are decoder norms."""

    def posterior(read: Signals) -> Posterior:
        return fit_posterior(
            read, truth_LR, own, norm_L**2, settings.slope_bins, settings.independent_reads, settings.fit_pairs, seed
        )

    return Maps(
        posterior(signals),
        posterior(of_latents(signals, order_L)),
        fit_quantile_map(signals.expected_LR, own.density_L, active_LV, settings.pooled_reads),
        own.robust_max_L,
        order_L,
    )


def judge(
    signals: Signals,
    truth_LR: Float32,
    own: Latents,
    maps: Maps,
    reads: Reads,
    norm_L: Float32,
    settings: CalibrateConfig,
) -> tuple[list[Row], dict[str, Judged], dict[str, npt.NDArray[np.float64]]]:
    """Metric rows, reliability diagrams by kind of probability, and columns for the table of latents."""
    active_LR = truth_LR > 0
    bootstrap = Bootstrap(reads.document_R)
    wrong = of_latents(signals, maps.order_L)
    base_LR = np.broadcast_to(own.density_L.astype(np.float32)[:, None], active_LR.shape)
    probabilities = {
        ("own", "raw"): expit(signals.odds_LR),
        ("own", "posterior"): maps.posterior.probability(signals),
        ("shuffled", "raw"): expit(wrong.odds_LR),
        ("shuffled", "posterior"): maps.posterior.probability(wrong),
        ("shuffled", "refitted"): maps.refitted.probability(wrong),
        ("none", "base_rate"): base_LR,
    }
    judged = {
        f"{explanation} {values}": judge_probabilities(
            active_LR, p_LR, bootstrap, settings.reliability_bins, {"explanation": explanation, "values": values}
        )
        for (explanation, values), p_LR in probabilities.items()
    }
    posterior_LR = maps.posterior.values(signals)
    values = {
        "linear": linear_values(signals.expected_LR, own.robust_max_L),
        "quantile": maps.quantile.values(signals.expected_LR),
        "posterior": posterior_LR,
        "shuffled": maps.posterior.values(wrong),
        "shuffled_refitted": maps.refitted.values(wrong),
    }
    rows = [row for found in judged.values() for row in found.rows]
    rows += judge_values(truth_LR, values, own.mean_L, norm_L, bootstrap)
    rows += judge_digits(truth_LR, signals.expected_LR, own.active_mean_L.astype(np.float32), {"explanation": "own"})
    mean_L1 = own.mean_L[:, None]
    spread_L = ((truth_LR - mean_L1) ** 2).sum(1, dtype=np.float64)
    error_L = ((truth_LR - posterior_LR) ** 2).sum(1, dtype=np.float64)
    fvu_L = np.divide(error_L, spread_L, out=np.full(len(spread_L), np.nan), where=spread_L > 0)
    columns = {
        "auc": judged["own raw"].auc_L,
        "fvu": fvu_L,
        "active_reads": active_LR.sum(1).astype(np.float64),
    }
    return rows, judged, columns


def _token_table(
    index: LatentIndex, chosen: Int, known: Latents, reads: Reads, settings: CalibrateConfig
) -> TokenTable:
    """Token means of the tokens read, with the configured prior or the one that fits the calibration reads best."""
    ids_R = index.rows.ids(reads.at_R)
    table = token_table(index, chosen, known.mean_L, ids_R)
    if settings.token_mean_prior is not None:
        return table._replace(prior=settings.token_mean_prior)
    few_R = np.flatnonzero(reads.split_R == Split.CALIBRATE)[:4096]
    truth_NL = truth_at(index, chosen, reads.at_R[few_R]).T
    return table.fitted(ids_R[few_R], truth_NL, index.table.decoder_norm_M[chosen].astype(np.float64) ** 2)


def _latents_table(
    predicted: Int, own: Latents, maps: Maps, columns: dict[str, npt.NDArray[np.float64]]
) -> pyarrow.Table:
    import pyarrow

    return pyarrow.table(
        {
            "latent": predicted,
            "score": own.score_L,
            "density": own.density_L,
            "mean": own.mean_L,
            "active_mean": own.active_mean_L,
            "robust_max": own.robust_max_L,
            "slope": maps.posterior.slope_L,
            "refitted_slope": maps.refitted.slope_L,
            **columns,
        }
    )


def _reliability_table(judged: dict[str, Judged]) -> pyarrow.Table:
    """Reliability diagrams on the evaluate split, one line per bin."""
    import pyarrow

    parts = []
    for name, found in judged.items():
        explanation, values = name.split()
        diagram = {key.removesuffix("_B"): column for key, column in found.diagram._asdict().items()}
        size = len(diagram["count"])
        parts.append(pyarrow.table({"explanation": [explanation] * size, "values": [values] * size, **diagram}))
    return pyarrow.concat_tables(parts)
