"""Figures as SVG text: axes, points with intervals, lines with bands, steps. Colours and fonts come from the page.

Every mark carries a `<title>` with its numbers, so a figure can be read without a script; series differ by marker and
dash as well as by colour (Okabe and Ito's colour-blind-safe palette, set in `static/report.css` as `--s1` … `--s7`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal, NamedTuple

Scale = Literal["linear", "log"]
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4", "10 4", "4 2 1 2")
WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48


class Series(NamedTuple):
    """Points joined by a line, with an optional band."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    """Lower ends of the intervals, as long as `y`."""
    high: Sequence[float] | None = None
    step: bool = False
    """Draw steps instead of straight lines, without markers: for histograms."""


class Reference(NamedTuple):
    """A horizontal line at a value that the series are compared with."""

    name: str
    y: float


@dataclass(frozen=True)
class Axis:
    """One axis: its label (with unit), scale and range. The range is that of the data where it is not given."""

    label: str
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Lines:
    """A figure of lines. NaN points are left out."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    references: Sequence[Reference] = field(default_factory=tuple)
    diagonal: bool = False
    """Draw y = x, for reliability diagrams."""
    verticals: Sequence[Reference] = field(default_factory=tuple)
    """Vertical lines, at the values of their `y` on the x axis."""

    def svg(self) -> str:
        """The figure with its legend, as an `<svg>` element of its own size."""
        xs = [v for s in self.series for v in s.x] + [vertical.y for vertical in self.verticals]
        ys = [v for s in self.series for group in (s.y, s.low or (), s.high or ()) for v in group]
        ys += [reference.y for reference in self.references]
        horizontal = Projection.fit(self.x, xs, LEFT, WIDTH - RIGHT)
        vertical = Projection.fit(self.y, ys, HEIGHT - BOTTOM, TOP)
        marks = [_frame(horizontal, vertical, self.x, self.y)]
        if self.diagonal:
            low = max(horizontal.low, vertical.low)
            high = min(horizontal.high, vertical.high)
            marks.append(
                f'<line class="reference" x1="{horizontal(low):.1f}" y1="{vertical(low):.1f}" '
                f'x2="{horizontal(high):.1f}" y2="{vertical(high):.1f}"><title>perfect calibration</title></line>'
            )
        marks += [_reference(reference, vertical) for reference in self.references]
        marks += [_upright(reference, horizontal) for reference in self.verticals]
        marks += [_series(number, series, horizontal, vertical) for number, series in enumerate(self.series)]
        names = [series.name for series in self.series]
        legend, height = _legend(names if len(names) > 1 else [], HEIGHT)
        return wrapped(self.title, "".join(marks) + legend, height)


class Dot(NamedTuple):
    """One row of a dot plot."""

    name: str
    value: float
    low: float
    high: float
    group: int = 0
    """Rows of one group share colour and marker."""
    note: str = ""


@dataclass(frozen=True)
class Dots:
    """Values with intervals, one per row: the readable form of a bar chart whose zero is not meaningful."""

    title: str
    axis: Axis
    dots: Sequence[Dot]
    references: Sequence[Reference] = field(default_factory=tuple)

    def svg(self) -> str:
        """The figure as an `<svg>` element; rows from top to bottom in the order given."""
        left, row = 200, 26
        values = [v for dot in self.dots for v in (dot.value, dot.low, dot.high)] + [r.y for r in self.references]
        across = Projection.fit(self.axis, values, left, WIDTH - RIGHT - 8)
        bottom = TOP + row * len(self.dots) + 6
        marks = []
        for tick in across.ticks():
            x = across(tick)
            marks.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
                f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number(tick)}</text>'
            )
        for reference in self.references:
            x = across(reference.y)
            marks.append(
                f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}">'
                f"<title>{escape(reference.name)}: {number(reference.y)}</title></line>"
            )
        for place, dot in enumerate(self.dots):
            if not math.isfinite(dot.value):
                continue
            y = TOP + row * (place + 0.5)
            low, high = (across(v) if math.isfinite(v) else across(dot.value) for v in (dot.low, dot.high))
            says = f"{dot.name}: {number(dot.value)} ({number(dot.low)} to {number(dot.high)}) {dot.note}".rstrip()
            marks.append(
                f'<g class="s{dot.group % 7 + 1}"><title>{escape(says)}</title>'
                f'<text class="label" x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(dot.name)}</text>'
                f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f"{_marker(dot.group, across(dot.value), y)}</g>"
            )
        middle = (left + WIDTH - RIGHT) / 2
        marks.append(
            f'<text class="axis" x="{middle}" y="{bottom + 36}" text-anchor="middle">{escape(self.axis.label)}</text>'
        )
        return wrapped(self.title, "".join(marks), bottom + 46)


@dataclass(frozen=True)
class Projection:
    """From data to pixels along one axis."""

    scale: Scale
    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float

    @classmethod
    def fit(cls, axis: Axis, values: Sequence[float], start: float, end: float) -> Projection:
        """A projection that shows all finite `values` (positive ones on a log scale) with a little air."""
        shown = [v for v in values if math.isfinite(v) and (axis.scale == "linear" or v > 0)] or [1.0]
        low = min(shown) if axis.low is None else axis.low
        high = max(shown) if axis.high is None else axis.high
        if low == high:
            low, high = (low / 2, high * 2) if axis.scale == "log" else (low - 0.5, high + 0.5)
        air = 0.04
        if axis.scale == "log":
            low = max(low, high * 1e-12)  # a wider range than this cannot be drawn
            ratio = (high / low) ** air
            low, high = (low if axis.low else low / ratio), (high if axis.high else high * ratio)
        else:
            span = high - low
            low = low - span * air if axis.low is None else low
            high = high + span * air if axis.high is None else high
        return cls(axis.scale, low, high, start, end)

    def __call__(self, value: float) -> float:
        """The pixel of `value`, kept inside the axis."""
        if self.scale == "log":
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values: about five on a linear scale; powers of ten on a log scale, 2 and 5 between if few."""
        if self.scale == "log":
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for steps in ((1,), (1, 3), (1, 2, 5)):
                ticks = [m * 10.0**e for e in exponents for m in steps if self.low <= m * 10.0**e <= self.high]
                if len(ticks) >= 3:
                    break
            return ticks
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough)
        first = math.ceil(self.low / step)
        return [round(i * step, 12) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def number(value: float, decimals: int | None = None) -> str:
    """With the given decimals; without, at most four significant digits and no needless zeros. `n/a` for NaN."""
    if not math.isfinite(value):
        return "n/a"
    if decimals is not None:
        return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−")
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def _frame(horizontal: Projection, vertical: Projection, x: Axis, y: Axis) -> str:
    left, right, bottom, top = horizontal.start, horizontal.end, vertical.start, vertical.end
    parts = []
    for tick in horizontal.ticks():
        at = f"{horizontal(tick):.1f}"
        parts.append(
            f'<line class="grid" x1="{at}" x2="{at}" y1="{top}" y2="{bottom}"/>'
            f'<text class="tick" x="{at}" y="{bottom + 16}" text-anchor="middle">{number(tick)}</text>'
        )
    for tick in vertical.ticks():
        at = f"{vertical(tick):.1f}"
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>'
            f'<text class="tick" x="{left - 8}" y="{float(at) + 4:.1f}" text-anchor="end">{number(tick)}</text>'
        )
    middle = (top + bottom) / 2
    parts.append(
        f'<text class="axis" x="{(left + right) / 2}" y="{bottom + 38}" text-anchor="middle">{escape(x.label)}</text>'
        f'<text class="axis" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(y.label)}</text>"
    )
    return "".join(parts)


def _reference(reference: Reference, vertical: Projection) -> str:
    y = vertical(reference.y)
    return (
        f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}">'
        f"<title>{escape(reference.name)}: {number(reference.y)}</title></line>"
        f'<text class="note" x="{WIDTH - RIGHT - 4}" y="{y - 4:.1f}" text-anchor="end">{escape(reference.name)}</text>'
    )


def _upright(reference: Reference, horizontal: Projection) -> str:
    x = f"{horizontal(reference.y):.1f}"
    return (
        f'<line class="reference" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}">'
        f"<title>{escape(reference.name)}: {number(reference.y)}</title></line>"
        f'<text class="note" x="{float(x) + 4:.1f}" y="{TOP + 10}">{escape(reference.name)}</text>'
    )


def _series(place: int, series: Series, horizontal: Projection, vertical: Projection) -> str:
    keep = [i for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)) if math.isfinite(x) and math.isfinite(y)]
    points = [(horizontal(series.x[i]), vertical(series.y[i])) for i in keep]
    if not points:
        return ""
    parts = []
    if series.low is not None and series.high is not None:
        upper = [(horizontal(series.x[i]), vertical(series.high[i])) for i in keep if math.isfinite(series.high[i])]
        lower = [(horizontal(series.x[i]), vertical(series.low[i])) for i in keep if math.isfinite(series.low[i])]
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in upper + lower[::-1])
        parts.append(f'<polygon class="band" points="{band}"/>')
    if series.step:
        path = f"M{points[0][0]:.1f},{points[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
        parts.append(f'<path class="line" d="{path}" stroke-dasharray="{DASHES[place % 7]}"/>')
    else:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="line" points="{path}" stroke-dasharray="{DASHES[place % 7]}"/>')
        for i, (x, y) in zip(keep, points, strict=True):
            says = f"{series.name}: {number(series.x[i])} → {number(series.y[i])}"
            if series.low is not None and series.high is not None:
                says += f" ({number(series.low[i])} to {number(series.high[i])})"
            parts.append(f"<g><title>{escape(says)}</title>{_marker(place, x, y)}</g>")
    return f'<g class="s{place % 7 + 1}">{"".join(parts)}</g>'


def _marker(kind: int, x: float, y: float) -> str:
    """Seven shapes that stay apart in black and white."""
    r = 4.0
    match kind % 7:
        case 0:
            return f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>'
        case 1:
            return f'<rect class="mark" x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"/>'
        case 2:
            return f'<path class="mark" d="M{x:.1f},{y - r - 1:.1f}l{r + 1},{2 * r + 1}h{-2 * r - 2}z"/>'
        case 3:
            return (
                f'<path class="mark" d="M{x:.1f},{y - r - 1:.1f}l{r + 1},{r + 1}l{-r - 1},{r + 1}l{-r - 1},{-r - 1}z"/>'
            )
        case 4:
            return f'<path class="mark" d="M{x:.1f},{y + r + 1:.1f}l{r + 1},{-2 * r - 1}h{-2 * r - 2}z"/>'
        case 5:
            return f'<path class="mark open" d="M{x - r:.1f},{y - r:.1f}l{2 * r},{2 * r}m0,{-2 * r}l{-2 * r},{2 * r}"/>'
        case _:
            return f'<path class="mark open" d="M{x - r:.1f},{y:.1f}h{2 * r}M{x:.1f},{y - r:.1f}v{2 * r}"/>'


def _legend(names: Sequence[str], top: float) -> tuple[str, float]:
    """Legend lines below the figure and the new height."""
    parts, x, y = [], float(LEFT), top + 8
    for place, name in enumerate(names):
        width = 40 + 7.2 * len(name)
        if x + width > WIDTH - RIGHT and x > LEFT:
            x, y = float(LEFT), y + 20
        parts.append(
            f'<g class="s{place % 7 + 1}"><line class="line" x1="{x}" x2="{x + 24}" y1="{y}" y2="{y}" '
            f'stroke-dasharray="{DASHES[place % 7]}"/>{_marker(place, x + 12, y)}'
            f'<text class="label" x="{x + 30}" y="{y + 4}">{escape(name)}</text></g>'
        )
        x += width
    return "".join(parts), y + 16 if names else top


def wrapped(title: str, marks: str, height: float) -> str:
    """Marks as one `<svg>` element."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{marks}</svg>'
    )
