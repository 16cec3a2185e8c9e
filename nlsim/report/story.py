"""What a run found, in sentences, tables and figures. Every number comes from the run's metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nlsim.reconstruct.conditions import SIMULATED
from nlsim.report.gather import Metrics, as_number
from nlsim.report.kinds import kinds
from nlsim.report.page import Browser, Figure, Part, Story
from nlsim.report.svg import Axis, Dot, Dots, Lines, Reference, Series, number
from nlsim.report.tables import Cell, Column, Number, Table

if TYPE_CHECKING:
    import pyarrow

    from nlsim.config import Config

LABELS = {
    "clean": "clean model",
    "coder": "coder, true activations",
    "token_mean": "token means (no explanation)",
    "posterior": "simulated: posterior mean",
    "quantile": "simulated: quantile map",
    "linear": "simulated: linear map",
    "shuffled": "shuffled explanations",
    "shuffled_refitted": "shuffled, map refitted",
    "mean": "mean ablation",
    "zero": "zero ablation",
    "random": "random latents",
}
"""What stands in for the activations → its name on the page, in the order of the tables."""
PREDICTED = [values for values in LABELS if values in SIMULATED]
WHOLE: dict[str, Any] = {"fraction": 1.0, "clip": "none"}


def tell(
    config: Config, metrics: Metrics, scores: pyarrow.Table, reliability: pyarrow.Table, browser: Browser,
    provenance: Mapping[str, str],
) -> Story:  # fmt: skip
    """The whole story of a run of the article's experiment."""
    positions = config.reconstruct.positions[0]
    return Story(
        config.report.title or f"nlsim: {config.name}",
        f"{config.subject.model} · {config.coder.path} · explained by {config.explain.method}, "
        f"simulated by {config.language_model('simulate').model}",
        headline(metrics, positions),
        list(findings(metrics, positions)),
        [
            losses(config, metrics),
            *([kinds(config, metrics, positions)] if config.kinds else []),
            simulation(metrics, reliability),
            explanations(metrics, scores),
        ],
        browser,
        provenance,
        config.to_yaml(),
        beside(config),
    )


def beside(config: Config) -> dict[str, str]:
    """Files beside the page → what they hold."""
    files = {
        "../metrics.json": "every number on this page with n and interval (docs/metrics.md)",
        "tables.zip": "the tables as CSV",
        "report.md": "this page as Markdown",
    }
    if config.continuations.prompts_at_most:
        files["interactive.html"] = "what the model writes, token by token, with and without its latents"
    return files


def headline(metrics: Metrics, positions: str) -> str:
    """One sentence: how much English recovers, or that it recovers nothing that can be measured."""
    share = metrics.number("fraction_recovered", values="posterior", positions=positions, **WHOLE)
    gain = metrics.number("ce_minus_mean", values="posterior", positions=positions, **WHOLE)
    where = "at every position" if positions == "all" else "at the last position of each window"
    if gain is None:
        return "This run simulated no activations, so it says nothing about explanations."
    if gain.high < 0 and share is not None:
        return (
            f"English explanations recover {percent(share)} of what the layer's latents contribute to the loss: "
            f"between mean ablation (0 %) and the true activations (100 %), with every latent simulated {where}."
        )
    if gain.low > 0:
        return (
            f"Simulating every latent from its English explanation {where} is worse than replacing each by its mean, "
            f"by {gain.text()} nats per token."
        )
    return (
        f"Simulating every latent from its English explanation {where} is not measurably different from replacing "
        f"each by its mean: {gain.text()} nats per token."
    )


def pool_says(precise: Number, pooled: Number) -> str:
    """What the published measure, which keeps at most 1,000 inactive latents per token, makes of a precision."""
    if abs(pooled.value - precise.value) < 0.005:
        return "; with so few latents the published pool of 1,000 inactive ones per token leaves none out"
    return f"; in a pool of 1,000 inactive latents per token, as published, it would read {pooled.text()}"


def findings(metrics: Metrics, positions: str) -> list[str]:
    """The main results, one sentence each, in order of importance."""
    found = []

    def ce(values: str) -> Number | None:
        return metrics.number("ce", values=values, positions=positions, **WHOLE)

    def against(base: str, values: str = "posterior") -> Number | None:
        return metrics.number(f"ce_minus_{base}", values=values, positions=positions, **WHOLE)

    shown = [(LABELS[v], ce(v)) for v in ("clean", "coder", "posterior", "token_mean", "mean", "zero")]
    levels = ", ".join(f"{number(value.value)} {label}" for label, value in shown if value is not None)
    if levels:
        found.append(f"Cross-entropy in nats per token: {levels}.")
    found += [
        f"Simulation {compared(difference)} {LABELS[base]}: {difference.text()} nats."
        for base in ("zero", "mean", "token_mean")
        if (difference := against(base)) is not None
    ]
    if (control := against("mean", "shuffled")) is not None:
        verdict = f"with another latent's explanation simulation {compared(control)} mean ablation"
        found.append(f"Control: {verdict}: {control.text()} nats.")
    share = metrics.number("fraction_recovered", values="shuffled_refitted", positions=positions, **WHOLE)
    if share is not None and (common := against("mean", "shuffled_refitted")) is not None:
        verdict = f"with calibration, too, fitted to wrong explanations, simulation {compared(common)} mean ablation"
        part = f"; {percent(share)} recovered, which is what latents have in common" if common.high < 0 else ""
        found.append(f"Control: {verdict}: {common.text()} nats{part}.")
    if (raw := against("zero", "linear")) is not None:
        verdict = f"simulation {compared(raw)} zero ablation: {raw.text()} nats"
        found.append(f"Without calibration (the published linear map) {verdict}.")
    auc = metrics.number("auc", explanation="own", values="raw")
    wrong = metrics.number("auc", explanation="shuffled", values="raw")
    if auc is not None and wrong is not None:
        found.append(
            f"Where a latent is active is told apart with AUC {auc.text()}; "
            f"with another latent's explanation {wrong.text()}."
        )
    precise = metrics.number("precision", explanation="own", values="posterior")
    pooled = metrics.number("precision_of_pool", explanation="own", values="posterior")
    if precise is not None and pooled is not None:
        found.append(f"Precision at the true prevalence is {precise.text()}{pool_says(precise, pooled)}.")
    found += [
        f"Mean {row['condition']['scorer']} balanced accuracy {as_number(row).text()} over {row['n']:,} latents."
        for row in metrics.all("balanced_accuracy")
        if "scorer" in row["condition"]
    ]
    return found


def losses(config: Config, metrics: Metrics) -> Part:
    """What each replacement costs: a table and figures for each way of patching."""
    items: list[str | Table | Figure | tuple[Figure, ...]] = [
        "The module's output is rebuilt from a code for all of its latents. Rows differ in what stands in for the true "
        "activations; differences are paired, window by window. Fraction recovered places a row between mean ablation "
        "(0) and the true activations (1)."
    ]
    for positions in config.reconstruct.positions:
        items.append(loss_table(metrics, positions))
        figures = [figure for figure in (loss_dots(metrics, positions), loss_curve(metrics, positions)) if figure]
        items.append(tuple(figures))
        clipped = clip_table(config, metrics, positions)
        if clipped.rows:
            items.append(clipped)
    return Part("losses", "What replacing the latents costs", items)


def loss_table(metrics: Metrics, positions: str) -> Table:
    """Cross-entropy, paired differences, KL and agreement of every condition at fraction 1."""
    columns = [
        Column("stands in for the activations"),
        Column("cross-entropy", "nats", "lower"),
        Column("− zero ablation", "nats", "lower"),
        Column("− mean ablation", "nats", "lower"),
        Column("− coder", "nats", "lower"),
        Column("fraction recovered", "", "higher"),
        Column("KL(clean‖patched)", "nats", "lower"),
        Column("top token kept", "share", "higher"),
        Column("tokens"),
    ]
    names = ("ce", "ce_minus_zero", "ce_minus_mean", "ce_minus_coder", "fraction_recovered", "kl", "top1")
    rows: list[list[Cell]] = []
    strong = set()
    for values, label in LABELS.items():
        row = metrics.row("ce", values=values, positions=positions, **WHOLE)
        if row is None:
            continue
        if values == "posterior":
            strong.add(len(rows))
        cells: list[Cell] = [metrics.number(name, values=values, positions=positions, **WHOLE) for name in names]
        rows.append([label, *("–" if cell is None else cell for cell in cells), int(row["n"])])
    where = "all positions patched" if positions == "all" else "last position patched"
    note = f"{where}; mean over tokens, 95 % intervals from resampling documents; differences are paired"
    return Table("Losses", columns, rows, note, frozenset(strong))


def loss_dots(metrics: Metrics, positions: str) -> Figure | None:
    """Paired differences from mean ablation, for the conditions that are near it."""
    groups = {"posterior": 1, "quantile": 1, "linear": 1, "shuffled": 3, "shuffled_refitted": 3}
    rows = {v: metrics.number("ce_minus_mean", values=v, positions=positions, **WHOLE) for v in LABELS if v != "mean"}
    known = {values: row for values, row in rows.items() if row is not None and math.isfinite(row.value)}
    near = [abs(known[v].value) for v in ("coder", "clean", "zero", "posterior") if v in known]
    if not near:
        return None
    limit = 3 * max(near)
    shown = {values: row for values, row in known.items() if abs(row.value) <= limit}
    dots = [Dot(LABELS[v].split(":")[-1].strip(), *row, groups.get(v, 0)) for v, row in shown.items()]
    left_out = ", ".join(f"{LABELS[v]} ({number(row.value)})" for v, row in known.items() if v not in shown)
    caption = (
        "Cross-entropy minus that of mean ablation; left is better; bars are paired 95 % intervals over documents."
    )
    return Figure(
        Dots(
            "Against mean ablation",
            Axis("difference in cross-entropy (nats per token)"),
            dots,
            [Reference("mean ablation", 0.0)],
        ),
        caption + (f" Off the scale: {left_out}." if left_out else ""),
    )


def loss_curve(metrics: Metrics, positions: str) -> Figure | None:
    """Cross-entropy against the fraction of latents that is simulated."""
    kinds = [(v, order) for v in ("posterior", "linear") for order in ("score", "random")]
    series = []
    for values, order in kinds:
        rows = [
            row
            for row in metrics.all("ce_minus_coder", values=values, positions=positions)
            if row["condition"]["order"] == order and 0 < row["condition"]["fraction"] < 1
        ]
        rows.sort(key=lambda row: row["condition"]["fraction"])
        if rows:
            points = [as_number(row) for row in rows]
            label = f"{LABELS[values].split(': ')[1]}, {'best-scored first' if order == 'score' else 'random'}"
            x = [float(row["condition"]["fraction"]) for row in rows]
            series.append(
                Series(label, x, [p.value for p in points], [p.low for p in points], [p.high for p in points])
            )
    if not series:
        return None
    row = next(iter(metrics.all("ce_minus_coder", values="posterior", order="score")), None)
    tokens = "" if row is None else f" n = {row['n']:,} tokens."
    return Figure(
        Lines(
            "Simulating a growing part of the latents",
            Axis("fraction of latents simulated", "log"),
            Axis("cross-entropy above the coder's (nats)"),
            series,
            [Reference("coder", 0.0)],
        ),
        f"The other latents keep their true activations. Bands: paired 95 % intervals over documents.{tokens}",
    )


def clip_table(config: Config, metrics: Metrics, positions: str) -> Table:
    """What keeping only the top k of the simulated code does."""
    rules = {"none": "all kept", "value": "top k by value", "norm": "top k by value × decoder norm"}
    rows: list[list[Cell]] = []
    for values in PREDICTED:
        cells: list[Cell] = [
            metrics.number("ce_minus_mean", values=values, positions=positions, fraction=1.0, clip=clip)
            for clip in rules
        ]
        if any(cell is not None for cell in cells[1:]):
            rows.append([LABELS[values], *cells])
    k = config.reconstruct.clip_k
    note = f"cross-entropy minus that of mean ablation; k = {k if k is not None else 'the coder’s own'}"
    columns = [Column("values"), *(Column(rule, "nats", "lower") for rule in rules.values())]
    return Table("Clipping the simulated code", columns, rows, note)


def simulation(metrics: Metrics, reliability: pyarrow.Table) -> Part:
    """Does the simulator know where a latent is active? At the true prevalence, with controls."""
    kinds = [
        ("own", "raw", "own explanation, as read"),
        ("own", "posterior", "own explanation, calibrated"),
        ("shuffled", "raw", "shuffled explanations, as read"),
        ("shuffled", "posterior", "shuffled explanations, same map"),
        ("shuffled", "refitted", "shuffled explanations, map refitted"),
        ("none", "base_rate", "no explanation (base rate)"),
    ]
    names = {
        "auc": Column("AUC", "", "higher"),
        "brier": Column("Brier", "", "lower"),
        "log_loss": Column("log loss", "nats", "lower"),
        "recall": Column("recall", "", "higher"),
        "precision": Column("precision", "", "higher"),
        "precision_of_pool": Column("precision, published pool", "", "higher"),
        "selected_per_token": Column("called active per token"),
        "active_per_token": Column("truly active per token"),
    }
    rows: list[list[Cell]] = []
    for explanation, values, label in kinds:
        cells: list[Cell] = [metrics.number(name, explanation=explanation, values=values) for name in names]
        if any(cell is not None for cell in cells):
            rows.append([label, *cells])
    row = metrics.row("brier", explanation="own", values="raw")
    pairs = f"{row['n']:,} (latent, token) pairs" if row is not None else "no pairs"
    table = Table(
        "Active or not",
        [Column("probability that a latent is active"), *names.values()],
        rows,
        f"evaluation windows; {pairs}, none sampled; 95 % intervals over documents (AUC: over latents)",
    )
    items: list[str | Table | Figure | tuple[Figure, ...]] = [
        "Every latent is asked about at every token, so precision is that of real use. The published measure pools "
        "each token's active latents with 1,000 inactive ones: the more latents a coder has, the better that makes "
        "precision look.",
        table,
        (reliability_figure(reliability, "raw"), reliability_figure(reliability, "posterior")),
    ]
    columns = [Column("values"), Column("activation variance unexplained", "share", "lower")]
    fvu: list[list[Cell]] = [[LABELS[values], metrics.number("activation_fvu", values=values)] for values in PREDICTED]
    items.append(Table("Activation values", columns, fvu, "1 is what mean ablation leaves; weighted by decoder norm"))
    return Part("simulation", "What the simulator knows", items)


def reliability_figure(reliability: pyarrow.Table, values: str) -> Figure:
    """Stated against observed frequency of being active."""
    frame = reliability.to_pandas()
    series = []
    for explanation in ("own", "shuffled"):
        mine = frame[(frame["explanation"] == explanation) & (frame["values"] == values)]
        columns = (mine[name].tolist() for name in ("predicted", "observed", "low", "high"))
        series.append(Series(f"{explanation} explanation", *columns))
    name = {"raw": "as read", "posterior": "through the calibration of right explanations"}[values]
    return Figure(
        Lines(
            f"Reliability, {name}",
            Axis("stated probability of being active", "log", 1e-4, 1.0),
            Axis("observed frequency", "log", 1e-4, 1.0),
            series,
            diagonal=True,
        ),
        "Bins of equal count; bands are Wilson 95 % intervals; the dashed line is perfect calibration.",
    )


def explanations(metrics: Metrics, scores: pyarrow.Table) -> Part:
    """How explanations score."""
    rows: list[list[Cell]] = []
    series = []
    names = np.array(scores.column("scorer").to_pylist())
    edges = np.linspace(0, 1, 21)
    for scorer in sorted(set(names.tolist())):
        cells: list[Cell] = [
            metrics.number(name, scorer=scorer) for name in ("balanced_accuracy", "auc", "f1", "failed")
        ]
        row = metrics.row("balanced_accuracy", scorer=scorer)
        rows.append([scorer, *cells, 0 if row is None else int(row["n"])])
        value = scores.column("balanced_accuracy").to_numpy(zero_copy_only=False)[names == scorer]
        counts, _ = np.histogram(value[np.isfinite(value)], edges)
        series.append(Series(scorer, edges.tolist(), [0.0, *counts.astype(float).tolist()], step=True))
    columns = [
        Column("scorer"), Column("balanced accuracy", "", "higher"), Column("AUC", "", "higher"),
        Column("F1", "", "higher"), Column("failed answers", "share", "lower"), Column("latents"),
    ]  # fmt: skip
    items: list[str | Table | Figure | tuple[Figure, ...]] = [
        "Contexts come from documents no explainer saw; silent contexts are verified silent and matched in position.",
        Table("Scores", columns, rows, "means over latents, 95 % intervals over latents"),
    ]
    if any(sum(one.y) for one in series):
        items.append(
            Figure(
                Lines("Scores of single latents", Axis("balanced accuracy"), Axis("latents", low=0.0), series),
                "Histogram in steps of 0.05; 0.5 is chance.",
            )
        )
    counts_of = [row for row in metrics.all("latents") if row["condition"]]
    statuses: list[list[Cell]] = [[row["condition"]["status"], int(row["value"])] for row in counts_of]
    items.append(Table("Explanations", [Column("status"), Column("latents")], statuses))
    return Part("scores", "How good the explanations are", items)


def percent(share: Number) -> str:
    """`61 % (48 to 73)`."""
    interval = f" ({100 * share.low:.0f} to {100 * share.high:.0f})" if math.isfinite(share.low + share.high) else ""
    return f"{100 * share.value:.0f} %{interval}"


def compared(difference: Number) -> str:
    """What a paired difference of losses says."""
    if difference.high < 0:
        return "is better than"
    return "is worse than" if difference.low > 0 else "is not measurably different from"
