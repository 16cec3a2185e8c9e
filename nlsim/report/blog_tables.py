"""Tables of the blog's experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlsim.report.gather import Metrics, as_number
from nlsim.report.published import Published, of_limits, of_method
from nlsim.report.tables import Cell, Column, Number, Table

if TYPE_CHECKING:
    from nlsim.config import Config

Kinds = Mapping[str, str | None]
"""Names of the kinds of explanations → the condition `kind` of their metrics, None for the run's own."""

INTERVALS = "95 % intervals over documents"


def limit_table(metrics: Metrics) -> Table:
    """The numbers of Figure 1."""
    names = ("kl", "kl_reverse", "ce_relative_error", "ce", "top1")
    columns = [
        Column("latents kept at every token"),
        Column("KL(clean ‖ patched)", "nats", "lower"),
        Column("KL(patched ‖ clean)", "nats", "lower"),
        Column("relative error of cross-entropy", "", "lower"),
        Column("cross-entropy", "nats", "lower"),
        Column("top token kept", "share", "higher"),
    ]
    rows: list[list[Cell]] = []
    for keep, label in (("clean", "clean model"), ("coder", "all"), ("zero", "none")):
        rows.append([label, *(metrics.number(name, task="limits", keep=keep) for name in names)])
    for keep in ("strongest", "random"):
        for row in metrics.all("kl", task="limits", keep=keep):
            count = row["condition"]["count"]
            cells = [metrics.number(name, task="limits", keep=keep, count=count) for name in names]
            rows.append([f"{count} {keep}", *cells])
    return Table("How many true latents are needed", columns, rows, INTERVALS)


def identification_table(metrics: Metrics, kinds: Kinds, top: int) -> Table:
    """Table 1."""
    entries: Sequence[tuple[Column, str, dict[str, Any]]] = (
        (Column("recall", "", "higher"), "recall", {}),
        (Column("specificity", "", "higher"), "specificity", {}),
        (Column("balanced accuracy", "", "higher"), "balanced_accuracy", {}),
        (Column("AUC", "", "higher"), "auc", {}),
        (Column("precision", "", "higher"), "precision", {"pool": "all"}),
        (Column("F1", "", "higher"), "f1", {"pool": "all"}),
        (Column(f"precision at {top}", "", "higher"), "precision_at", {"pool": "all"}),
        (Column("precision, published pool", "", "higher"), "precision", {"pool": "published"}),
        (Column("F1, published pool", "", "higher"), "f1", {"pool": "published"}),
        (Column(f"precision at {top}, published pool", "", "higher"), "precision_at", {"pool": "published"}),
        (Column("called active per token"), "selected_per_token", {"pool": "all"}),
        (Column("truly active per token"), "active_per_token", {}),
        (Column("of them explained", "share", "higher"), "explained_active", {}),
        (Column("failed answers", "share", "lower"), "failed", {}),
    )
    rows: list[list[Cell]] = [
        [name, *(metrics.number(metric, kind, task="identify", **more) for _, metric, more in entries)]
        for name, kind in kinds.items()
    ]
    columns = [Column("kind of explanations"), *(column for column, _, _ in entries)]
    note = (
        "called active from probability ½; means over tokens (precision: over those at which any latent was called "
        f"active), {INTERVALS}; quartiles over tokens in metrics.json"
    )
    return Table("Identification of active latents", columns, rows, note)


def help_table(metrics: Metrics, kinds: Kinds) -> Table:
    """Figure 3 in numbers, both directions of the divergence."""
    columns = [
        Column("true active latents kept"),
        Column("KL(clean ‖ patched), mean", "nats", "lower"),
        Column("median (quartiles over tokens)", "nats", "lower"),
        Column("KL(patched ‖ clean), mean", "nats", "lower"),
        Column("median (quartiles over tokens)", "nats", "lower"),
        Column("cross-entropy − coder", "nats", "lower"),
        Column("tokens"),
    ]

    def line(label: str, kind: str | None, keep: str) -> list[Cell]:
        found: dict[str, Any] = {"task": "help", "keep": keep}
        quartiles: list[Cell] = []
        for name in ("kl", "kl_reverse"):
            low, middle, high = (metrics.number(f"{name}_{level}", kind, **found) for level in ("p25", "p50", "p75"))
            known = low is not None and middle is not None and high is not None
            quartiles.append(Number(middle.value, low.value, high.value) if known else None)  # type: ignore[union-attr]
        row = metrics.row("kl_p50", kind, **found)
        return [
            label,
            metrics.number("kl", kind, **found),
            quartiles[0],
            metrics.number("kl_reverse", kind, **found),
            quartiles[1],
            metrics.number("ce_minus_coder", kind, **found) or "–",
            0 if row is None else int(row["n"]),
        ]

    rows = [line("all: the coder", None, "coder"), line("none", None, "none")]
    for name, kind in kinds.items():
        rows += [line(f"found by {name}", kind, "found"), line(f"as many as {name} finds, at random", kind, "random")]
    return Table("With help", columns, rows, f"means with {INTERVALS}")


def value_table(metrics: Metrics, kinds: Kinds) -> Table:
    """Table 2."""
    columns = [Column("kind of explanations")]
    entries: list[tuple[str, dict[str, Any]]] = []
    for target in ("value", "quantile"):
        columns += [
            Column(f"correlation with {target}", "", "higher"),
            Column(f"rank correlation with {target}", "", "higher"),
            Column(f"accuracy of {target}", "share", "higher"),
            Column("by chance", "share"),
        ]
        at = {"task": "value", "target": target}
        entries += [
            ("correlation", at),
            ("rank_correlation", at),
            ("accuracy", at),
            ("accuracy", {**at, "by": "chance"}),
        ]
    rows: list[list[Cell]] = []
    for name, kind in kinds.items():
        row = metrics.row("correlation", kind, task="value", target="value")
        rows.append(
            [name, *(metrics.number(metric, kind, **at) for metric, at in entries), 0 if row is None else int(row["n"])]
        )
    note = f"active latents alone; accuracy: the rounded digit is the rounded place; {INTERVALS}"
    return Table("Values of active latents", [*columns, Column("pairs")], rows, note)


def sweep_table(metrics: Metrics, kinds: Kinds) -> Table:
    """Exact tail counts by threshold, with the fitted tail beside them."""
    columns = [
        Column("kind, threshold of P(active)"),
        Column("recall", "", "higher"),
        Column("false-positive rate", "", "lower"),
        Column("from the fitted tail", "", "lower"),
        Column("precision", "", "higher"),
        Column("called active per token"),
    ]
    rows: list[list[Cell]] = []
    resolutions = []
    for name, kind in kinds.items():
        finest = metrics.number("resolution", kind, task="identify")
        resolutions.append(f"{name} {finest.text()}" if finest is not None else name)
        for row in metrics.all("recall", kind, task="identify"):
            threshold = row["condition"].get("threshold")
            if threshold is None:
                continue
            at = {"task": "identify", "threshold": threshold}
            rates = [r for r in metrics.all("false_positive_rate", kind, **at) if "from" not in r["condition"]]
            rows.append(
                [
                    f"{name}, {threshold:g}",
                    as_number(row),
                    as_number(rates[0]) if rates else None,
                    metrics.number("false_positive_rate", kind, **at, **{"from": "fitted tail"}) or "–",
                    metrics.number("precision", kind, **at),
                    metrics.number("selected_per_token", kind, **at),
                ]
            )
    note = f"true prevalence; {INTERVALS}; resolution of the rates: {', '.join(resolutions)}"
    return Table("Thresholds", columns, rows, note)


def predictive_table(metrics: Metrics, kinds: Kinds) -> Table:
    """Rank correlations of scores with the quality of simulation."""
    columns = [Column("kind, scorer, quality"), Column("rank correlation"), Column("given density"), Column("latents")]
    rows: list[list[Cell]] = []
    for name, kind in kinds.items():
        for row in metrics.all("rank_correlation", kind, task="predict"):
            condition = row["condition"]
            if "given" in condition:
                continue
            at = {key: condition[key] for key in ("task", "scorer", "quality")}
            partial = metrics.number("rank_correlation", kind, **at, given="density")
            label = f"{name}, {condition['scorer']}, {condition['quality']}"
            rows.append([label, as_number(row), partial, int(row["n"])])
    note = "Spearman over latents, 95 % intervals over latents"
    return Table("Scores and simulation", columns, rows, note)


def published_table(config: Config, metrics: Metrics) -> Table:
    """The published value, ours, and why they differ."""
    columns = [Column("quantity"), Column("published"), Column("ours"), Column("n"), Column("what sets them apart")]
    models = "" if "gemma-2-9b" in config.subject.model.lower() else "model and data"
    rows: list[list[Cell]] = []

    def line(entry: Published, kind: str | None, label: str) -> list[Cell]:
        row = metrics.row(entry.name, kind, **entry.condition)
        ours: Cell = "not run" if row is None else as_number(row)
        reasons = "; ".join(reason for reason in (models, entry.why) if reason)
        return [f"{label}{entry.what}", entry.number, ours, 0 if row is None else int(row["n"]), reasons]

    rows += [line(entry, None, "") for entry in of_limits()]
    for kind, method in (config.blog.like or {config.kind: "quantiles"}).items():
        condition = None if kind == config.kind else kind
        rows += [line(entry, condition, f"{kind} (published: {method}): ") for entry in of_method(method)]
    note = "model and data: another subject, coder, simulator and text" if models else ""
    return Table("Published and ours", columns, rows, note)
