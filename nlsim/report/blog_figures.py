"""Figures of the blog's experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nlsim.metrics.rows import Row
from nlsim.report.blog_tables import Kinds
from nlsim.report.gather import Metrics, as_number
from nlsim.report.heat import Heat
from nlsim.report.page import Figure
from nlsim.report.svg import Axis, Dot, Dots, Lines, Reference, Series

OVER_DOCUMENTS = "Bands: 95 % intervals over documents."


def _series(name: str, rows: Sequence[Row], x: str) -> Series:
    points = [as_number(row) for row in rows]
    along = [float(row["condition"][x]) for row in rows]
    return Series(name, along, [p.value for p in points], [p.low for p in points], [p.high for p in points])


def _by_kind(metrics: Metrics, kinds: Kinds, name: str, x: str, **condition: Any) -> list[Series]:
    """One line per kind along the entry `x` of the condition."""
    found = []
    for label, kind in kinds.items():
        rows = [row for row in metrics.all(name, kind, **condition) if x in row["condition"]]
        if rows:
            found.append(_series(label, sorted(rows, key=lambda row: float(row["condition"][x])), x))
    return found


def limit_lines(metrics: Metrics, name: str, label: str) -> Figure:
    """Figure 1: loss against the number of true latents kept."""
    series = [
        _series(f"{keep} latents", list(metrics.all(name, task="limits", keep=keep)), "count")
        for keep in ("strongest", "random")
    ]
    whole = metrics.number(name, task="limits", keep="coder")
    references = [Reference("all true latents", whole.value)] if whole is not None and whole.value > 0 else []
    mean = metrics.number("active_per_token", task="identify")
    verticals = [Reference("mean active", mean.value)] if mean is not None and math.isfinite(mean.value) else []
    drawing = Lines(
        label, Axis("true active latents kept per token", "log"), Axis(label, "log"), series, references,
        verticals=verticals,
    )  # fmt: skip
    return Figure(drawing, f"Tokens with fewer active latents keep all. {OVER_DOCUMENTS}")


def needed_lines(metrics: Metrics) -> Figure | None:
    """What planted simulators add to the cross-entropy, against their false-positive rate, by recall."""
    name = "ce_relative_error"  # paired with the clean run, unlike the cross-entropy itself
    rows = [row for row in metrics.all(name, task="limits", keep="planted") if row["condition"]["false_rate"] > 0]
    if not rows:
        return None
    recalls = sorted({row["condition"]["recall"] for row in rows}, reverse=True)
    series = []
    for recall in recalls:
        mine = sorted(
            (row for row in rows if row["condition"]["recall"] == recall),
            key=lambda row: row["condition"]["false_rate"],
        )
        series.append(_series(f"recall {recall:g}", mine, "false_rate"))
    ends = {"all true latents": "coder", "no latents": "zero"}
    levels = {label: metrics.number(name, task="limits", keep=keep) for label, keep in ends.items()}
    references = [Reference(label, level.value) for label, level in levels.items() if level is not None]
    zero = {
        row["condition"]["recall"]: as_number(row).text()
        for row in metrics.all(name, task="limits", keep="planted", false_rate=0.0)
    }
    without = "; ".join(f"recall {recall:g}: {text}" for recall, text in sorted(zero.items(), reverse=True))
    return Figure(
        Lines(
            "Accuracy that is needed",
            Axis("share of the inactive latents called active", "log"),
            Axis("relative error of cross-entropy"),
            series,
            references,
        ),
        f"{OVER_DOCUMENTS}" + (f" Without any false positive: {without}." if without else ""),
    )


def rank_lines(metrics: Metrics, kinds: Kinds) -> Figure:
    """Figure 2, left: recall along the activation rank."""
    return Figure(
        Lines(
            "Recall by activation rank",
            Axis("rank at the token: 0 strongest, 1 weakest", low=0.0, high=1.0),
            Axis("recall", low=0.0, high=1.0),
            _by_kind(metrics, kinds, "recall", "rank", task="identify"),
        ),
        OVER_DOCUMENTS,
    )


def help_dots(metrics: Metrics, kinds: Kinds, what: str) -> Figure:
    """Figure 3 (`kl`), or the right of Figure 2 (`alignment`)."""
    dots, references = [], []
    if what == "alignment":
        pairs = (("likeliest", "likeliest latents"), ("random", "random latents"))
        for name, kind in kinds.items():
            for group, (latents, label) in enumerate(pairs):
                value = metrics.number("alignment", kind, task="identify", latents=latents)
                if value is not None:
                    dots.append(Dot(f"{name}: {label}", *value, group))
        axis, title = Axis("mean cosine with the active latents", low=0.0), "Alignment of decoder directions"
        caption = "As many latents as are active, paired to their best (Hungarian algorithm). Bars: 95 % intervals."
    else:
        for name, kind in kinds.items():
            for group, (keep, label) in enumerate((("found", "found"), ("random", "as many at random"))):
                value = metrics.number("kl", kind, task="help", keep=keep)
                if value is not None:
                    dots.append(Dot(f"{name}: {label}", *value, group))
        for label, keep in (("all", "coder"), ("none", "none")):
            value = metrics.number("kl", task="help", keep=keep)
            if value is not None:
                references.append(Reference(label, value.value))
        axis, title = Axis("KL(clean ‖ patched), mean (nats)"), "KL with help"
        caption = "Dashed: all latents under study kept, and none. Bars: 95 % intervals over documents."
    return Figure(Dots(title, axis, dots, references), caption)


def digit_lines(metrics: Metrics, kinds: Kinds, target: str) -> Figure:
    """Figure 4, right: the mean true place by the rounded expected digit."""
    return Figure(
        Lines(
            f"True {target} by predicted digit",
            Axis("rounded expected digit", low=0.0, high=9.0),
            Axis(f"mean place of the true activation, by {target}", low=0.0, high=9.0),
            _by_kind(metrics, kinds, "mean_place", "digit", task="value", target=target),
            diagonal=True,
        ),
        OVER_DOCUMENTS,
    )


def heat_maps(name: str, heat: Mapping[str, list[list[float]]]) -> tuple[Figure, ...]:
    """Figure 4, left: true places by predicted digit."""
    return tuple(
        Figure(
            Heat(f"{name}: true {target} by predicted digit", "expected digit", f"place by {target}", counts),
            f"Shades compare inside a column. n = {sum(map(sum, counts)):,.0f} active pairs.",
        )
        for target, counts in heat.items()
    )


def sweep_lines(metrics: Metrics, kinds: Kinds) -> Figure:
    """Figure 5: recall against how many latents are called active, threshold by threshold."""
    series = []
    for label, kind in kinds.items():
        x, y = [], []
        for row in metrics.all("recall", kind, task="identify"):
            threshold = row["condition"].get("threshold")
            if threshold is None:
                continue
            selected = metrics.number("selected_per_token", kind, task="identify", threshold=threshold)
            if selected is not None and selected.value > 0:
                x.append(selected.value)
                y.append(as_number(row))
        if x:
            series.append(Series(label, x, [v.value for v in y], [v.low for v in y], [v.high for v in y]))
    mean = metrics.number("active_per_token", task="identify")
    verticals = [Reference("truly active", mean.value)] if mean is not None and mean.value > 0 else []
    drawing = Lines(
        "Recall by latents called active", Axis("latents called active per token", "log"), Axis("recall", low=0.0),
        series, verticals=verticals,
    )  # fmt: skip
    return Figure(drawing, f"One point per threshold. {OVER_DOCUMENTS}")


def false_rate_lines(metrics: Metrics, kinds: Kinds) -> Figure:
    """False-positive rate against the threshold, with the fitted tail."""
    series = []
    for label, kind in kinds.items():
        for name, fitted in (("", False), (", fitted tail", True)):
            rows = [
                row
                for row in metrics.all("false_positive_rate", kind, task="identify")
                if ("from" in row["condition"]) == fitted
            ]
            found = _series(f"{label}{name}", rows, "threshold") if rows else None
            if found is not None:
                series.append(found._replace(x=[1 - threshold for threshold in found.x]))
    return Figure(
        Lines("False positives", Axis("1 − threshold", "log"), Axis("false-positive rate", "log"), series),
        f"Exact counts; rates of 0 are below the axis. {OVER_DOCUMENTS}",
    )


def score_lines(metrics: Metrics, kinds: Kinds, quality: str) -> Figure | None:
    """Figure 6: quality of simulation by score, density held fixed."""
    series = []
    for label, kind in kinds.items():
        by_scorer: dict[str, list[Row]] = {}
        for row in metrics.all("quality", kind, task="predict", quality=quality, given="density"):
            by_scorer.setdefault(row["condition"]["scorer"], []).append(row)
        series += [_series(f"{label}, {scorer}", rows, "score") for scorer, rows in by_scorer.items()]
    if not series:
        return None
    titles = {"recall": "Recall of active pairs by score", "specificity": "Specificity of inactive pairs by score"}
    drawing = Lines(titles[quality], Axis("score (balanced accuracy)"), Axis(quality), series)
    return Figure(drawing, "Means over latents in bins of the score, at the mean density. Bands: 95 % over latents.")
