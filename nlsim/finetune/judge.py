"""How good the finetuned model is on held-out latents and documents, beside the base model and a control.

Both models answer through the engine and the prompts of a run. `other` explanations are another latent's: a model that
does as well with them has learned which tokens are often active, not to read explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from nlsim.calibrate.signals import read_signals
from nlsim.lm.engine import load_engine
from nlsim.lm.prompts import leaf
from nlsim.metrics.intervals import Bootstrap
from nlsim.metrics.rows import Row, metric_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from nlsim.finetune.examples import Example
    from nlsim.lm.config import LmConfig


def judge(
    models: dict[str, LmConfig],
    examples: Sequence[Example],
    choices: Sequence[int],
    least_mass: float,
    progress: Callable[[int, int], None],
) -> list[Row]:
    """Rows of metrics.json for every model and kind of explanation: `log_loss` of the right answer, `auc`, `recall`,
    `specificity` and `digit_correlation`, latents resampled. Differences to `base` are paired.

    Examples of active and silent windows are as frequent as they were made, not as in use.
    """
    held = [example for example in examples if example.group == "judge"]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, (name, lm) in enumerate(models.items()):
        logprobs = []
        with closing(load_engine(lm)) as engine:
            for answer in engine.choose((leaf(example.tokens, example.reads) for example in held), choices):
                logprobs.append(answer.logprobs_RC)
                progress(number * len(held) + len(logprobs), len(models) * len(held))
        for explanation in ("own", "other"):
            mine = [i for i, example in enumerate(held) if example.explanation == explanation]
            found[name, explanation] = _answered([held[i] for i in mine], [logprobs[i] for i in mine], least_mass)
    rows: list[Row] = []
    for (name, explanation), one in found.items():
        condition = {"task": "finetune", "model": name, "explanation": explanation}
        bootstrap = Bootstrap(one["latent_N"])
        active_N, said_N = one["truth_N"] > 0, one["probability_N"] >= 0.5
        known_N = ~np.isnan(one["probability_N"])
        estimates = {
            "log_loss": (bootstrap.mean(one["loss_N"]), "nats"),
            "auc": (bootstrap.auc(active_N, one["probability_N"]), "share"),
            "recall": (bootstrap.ratio(active_N & said_N & known_N, active_N & known_N), "share"),
            "specificity": (bootstrap.ratio(~active_N & ~said_N & known_N, ~active_N & known_N), "share"),
            "failed": (bootstrap.mean((~known_N).astype(np.float64)), "share"),
        }
        if len(choices) > 2:
            place_N = np.where(active_N, one["truth_N"], np.nan)
            estimates["digit_correlation"] = (bootstrap.correlation(one["expected_N"], place_N), "correlation")
        rows += [metric_row(metric, estimate, unit, condition) for metric, (estimate, unit) in estimates.items()]
        base = found["base", explanation]
        if name != "base":
            gain = bootstrap.difference(one["loss_N"], base["loss_N"])
            rows.append(metric_row("log_loss_minus_base", gain, "nats", condition))
    return rows


def _answered(examples: Sequence[Example], logprobs: Sequence[Any], least_mass: float) -> dict[str, Any]:
    """Readings of all answers, one after the other."""
    if not examples:
        empty = np.zeros(0)
        return dict.fromkeys(("latent_N", "truth_N", "loss_N", "probability_N", "expected_N"), empty)
    logprobs_NC = np.concatenate(logprobs).astype(np.float64)
    truth_N = np.concatenate([example.answers for example in examples])
    signals = read_signals(logprobs_NC[None], least_mass)
    return {
        "latent_N": np.repeat([example.latent for example in examples], [len(example.reads) for example in examples]),
        "truth_N": truth_N,
        "loss_N": -logprobs_NC[np.arange(len(truth_N)), truth_N],
        "probability_N": expit(signals.odds_LR[0]),
        "expected_N": signals.expected_LR[0].astype(np.float64),
    }
