"""The page of a finetuning run: loss curves, and the finetuned model beside the base model and the control."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlsim.lm.adapter import CARD
from nlsim.report.gather import Metrics
from nlsim.report.page import Browser, Figure, Part, Story
from nlsim.report.svg import Axis, Lines, Series
from nlsim.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.store.artifact import Artifact

MODELS = {"base": "base model", "finetuned": "finetuned"}
EXPLANATIONS = {"own": "own explanation", "other": "another latent's explanation"}


def tell_finetune(config: Config, metrics: Metrics, train: Artifact, provenance: Mapping[str, str]) -> Story:
    """The whole story of a finetuning run."""
    card = json.loads(train.path(0, CARD).read_text(encoding="utf-8"))
    auc = {
        (model, explanation): metrics.number("auc", task="finetune", model=model, explanation=explanation)
        for model in MODELS
        for explanation in EXPLANATIONS
    }
    before, after, control = auc["base", "own"], auc["finetuned", "own"], auc["finetuned", "other"]
    said = "This run judged nothing."
    if before is not None and after is not None:
        said = f"On latents and documents left out, AUC is {after.text()} after finetuning and {before.text()} before."
    gain = metrics.number("log_loss_minus_base", task="finetune", model="finetuned", explanation="own")
    findings = []
    if gain is not None:
        findings.append(f"Log loss of the right answer, finetuned minus base: {gain.text()} nats.")
    if control is not None:
        findings.append(f"Control: with another latent's explanation the finetuned model's AUC is {control.text()}.")
    if card["shuffled"]:
        findings.append("This adapter is itself a control: it was taught with other latents' explanations.")
    downloads = {
        "../metrics.json": "every number on this page with n and interval (docs/metrics.md)",
        "../adapter/adapter_model.safetensors": "the adapter in peft's form; its settings and card are beside it",
        "tables.zip": "the tables as CSV",
        "report.md": "this page as Markdown",
    }
    return Story(
        config.report.title or f"nlsim: {config.name}",
        f"{card['model']} taught to simulate {config.coder.path}",
        said,
        findings,
        [Part("training", "Training", [curve(card)]), Part("judged", "On what was left out", [table(metrics)])],
        Browser([], {}),
        provenance,
        config.to_yaml(),
        downloads,
    )


def curve(card: Mapping[str, list[list[float | None]]]) -> Figure:
    """Mean loss of the right answers, of what is learned and of what is held out."""
    steps = [float(point[0] or 0) for point in card["curve"]]
    learned, judged = ([math.nan if p[i] is None else float(p[i] or 0) for p in card["curve"]] for i in (1, 2))
    rows: list[list[Cell]] = [
        [f"{step:.0f}", "–" if math.isnan(a) else f"{a:.4g}", f"{b:.4g}"]
        for step, a, b in zip(steps, learned, judged, strict=True)
    ]
    return Figure(
        Lines(
            "Loss of the right answer",
            Axis("optimiser steps", low=0.0),
            Axis("nats per answer"),
            [Series("learned", steps, learned), Series("held out", steps, judged)],
        ),
        "Held out: other latents in other documents. Learned: mean since the point before.",
        Table("Loss curve", [Column("step"), Column("learned", "nats"), Column("held out", "nats")], rows),
    )


def table(metrics: Metrics) -> Table:
    """Base and finetuned model, with the right and with another latent's explanation."""
    names = {
        "auc": Column("AUC", "", "higher"),
        "log_loss": Column("log loss", "nats", "lower"),
        "log_loss_minus_base": Column("log loss − base", "nats", "lower"),
        "recall": Column("recall", "", "higher"),
        "specificity": Column("specificity", "", "higher"),
        "digit_correlation": Column("digit correlation", "", "higher"),
        "failed": Column("failed answers", "share", "lower"),
    }
    rows: list[list[Cell]] = []
    for model, label in MODELS.items():
        for explanation, with_what in EXPLANATIONS.items():
            at = {"task": "finetune", "model": model, "explanation": explanation}
            rows.append([f"{label}, {with_what}", *(metrics.number(name, **at) or "–" for name in names)])
    note = "held-out latents in held-out documents, active and silent windows as they were drawn; 95 % over latents"
    return Table("Finetuned and base model", [Column("who answers"), *names.values()], rows, note)
