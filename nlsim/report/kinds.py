"""The kinds of explanations of a run side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.report.page import Part
from nlsim.report.tables import Cell, Column, Table

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.report.gather import Metrics


def kinds(config: Config, metrics: Metrics, positions: str) -> Part:
    """Explanations, predictions and losses of every kind, the run's own first."""
    columns = [
        Column("kind"),
        Column("detection", "balanced accuracy", "higher"),
        Column("active or not", "AUC", "higher"),
        Column("variance unexplained", "share", "lower"),
        Column("cross-entropy − mean ablation", "nats", "lower"),
        Column("fraction recovered", "", "higher"),
        Column("explained latents"),
    ]
    whole = {"values": "posterior", "fraction": 1.0, "clip": "none", "positions": positions}
    rows: list[list[Cell]] = []
    for kind in (None, *config.kinds):
        explained = metrics.row("latents", kind, status="ok")
        rows.append(
            [
                kind or config.kind,
                metrics.number("balanced_accuracy", kind, scorer="detection"),
                metrics.number("auc", kind, explanation="own", values="raw"),
                metrics.number("activation_fvu", kind, values="posterior"),
                metrics.number("ce_minus_mean", kind, **whole),
                metrics.number("fraction_recovered", kind, **whole),
                0 if explained is None else int(explained["value"]),
            ]
        )
    note = "95 % intervals; losses of the posterior mean, all latents simulated"
    return Part("kinds", "Kinds of explanations", [Table("Kinds of explanations", columns, rows, note)])
