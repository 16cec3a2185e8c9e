"""Work over time as SVG text: one bar per piece of work, as many rows as there was work at once."""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from html import escape
from typing import NamedTuple

from nlsim.report.svg import LEFT, RIGHT, TOP, WIDTH, wrapped

ROW = 10
MOST_ROWS = 40
IDLE_SECONDS = 60.0
"""Longer times without work are cut out of the time axis."""
ROUNDING = 0.002
"""Seconds by which a span may begin before its predecessor's end: records round to milliseconds."""
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where the time axis has ticks."""


class Span(NamedTuple):
    """One attempt at one shard."""

    stage: int
    """Its place in the pipeline."""
    shard: int
    host: str
    start: float
    """Seconds since the epoch."""
    end: float
    failed: bool = False


class Clock:
    """From time to seconds of the axis, which starts with the first span and leaves out when nothing was at work."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.starts: list[float] = []
        """When work set in, after each idle time."""
        self.before: list[float] = []
        """Seconds of the axis until then."""
        self.total = busy_until = 0.0
        for span in sorted(spans, key=lambda span: span.start):
            if not self.starts or span.start > busy_until + IDLE_SECONDS:
                if self.starts:
                    self.total = self.before[-1] + busy_until - self.starts[-1]
                self.starts.append(span.start)
                self.before.append(self.total)
                busy_until = span.end
            busy_until = max(busy_until, span.end)
            self.total = self.before[-1] + busy_until - self.starts[-1]

    def __call__(self, time: float) -> float:
        place = max(bisect_right(self.starts, time) - 1, 0)
        return self.before[place] + time - self.starts[place]


def rows(spans: Iterable[Span]) -> list[list[Span]]:
    """The spans in as few rows as keep those of one row apart, by their start."""
    made: list[list[Span]] = []
    ends: list[tuple[float, int]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if ends and ends[0][0] <= span.start + ROUNDING:
            place = heappop(ends)[1]
        else:
            place = len(made)
            made.append([])
        made[place].append(span)
        heappush(ends, (span.end, place))
    return made


@dataclass(frozen=True)
class Spans:
    """A figure of work over time, coloured by stage; failed attempts are outlined."""

    title: str
    spans: Sequence[Span]
    stages: Sequence[str]

    def svg(self) -> str:
        """The figure as an `<svg>` element: the first rows, and bars too narrow to see joined with their neighbours."""
        clock = Clock(self.spans)
        unit, name = next((u, n) for u, n in UNITS if clock.total >= 2 * u or u == 1)
        scale = (WIDTH - LEFT - RIGHT) / max(clock.total, 1e-9)
        drawn = rows(self.spans)[:MOST_ROWS]
        bottom = TOP + ROW * max(len(drawn), 1)
        marks = [self._tick(LEFT + part * (WIDTH - LEFT - RIGHT), part * clock.total / unit, bottom) for part in PARTS]
        marks.append(
            f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 36}" text-anchor="middle">'
            f"time at work ({name})</text>"
        )
        for start, before in list(zip(clock.starts, clock.before, strict=True))[1:]:
            x = LEFT + before * scale
            says = f"idle until {stamp(start)}"
            marks.append(
                f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}">'
                f"<title>{says}</title></line>"
            )
        for place, row in enumerate(drawn):
            marks += [self._bar(group, clock, scale, TOP + ROW * place) for group in joined(row, 1.5 / scale)]
        legend, height = self._legend(bottom + 48)
        return wrapped(self.title, "".join(marks) + legend, height)

    def _tick(self, x: float, value: float, bottom: float) -> str:
        return (
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
            f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.3g}</text>'
        )

    def _bar(self, group: Sequence[Span], clock: Clock, scale: float, y: float) -> str:
        first, last = group[0], group[-1]
        x, width = LEFT + clock(first.start) * scale, max((clock(last.end) - clock(first.start)) * scale, 0.7)
        what = f"{self.stages[first.stage]} {first.shard}" + (f" to {last.shard}" if len(group) > 1 else "")
        who = first.host + (" and others" if len({span.host for span in group}) > 1 else "")
        says = f"{what} on {who}{', failed' if first.failed else ''}: {stamp(first.start)}, "
        says += f"{last.end - first.start:.1f} s"
        shape = "mark open" if first.failed else "cell"
        return (
            f'<g class="s{first.stage % 7 + 1}"><rect class="{shape}" x="{x:.1f}" y="{y + 1:.1f}" width="{width:.1f}" '
            f'height="{ROW - 2}"><title>{escape(says)}</title></rect></g>'
        )

    def _legend(self, top: float) -> tuple[str, float]:
        parts, x, y = [], float(LEFT), top
        for place in sorted({span.stage for span in self.spans}):
            width = 30 + 7.2 * len(self.stages[place])
            if x + width > WIDTH - RIGHT and x > LEFT:
                x, y = float(LEFT), y + 18
            parts.append(
                f'<g class="s{place % 7 + 1}"><rect class="cell" x="{x}" y="{y - 8}" width="12" height="10"/>'
                f'<text class="label" x="{x + 18}" y="{y}">{escape(self.stages[place])}</text></g>'
            )
            x += width
        return "".join(parts), y + 12


def joined(row: Sequence[Span], narrow: float) -> list[list[Span]]:
    """Neighbours of one stage and outcome, a few at a time, where they are narrower than `narrow` seconds and touch."""
    groups: list[list[Span]] = []
    for span in row:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and (last.stage, last.failed) == (span.stage, span.failed)
            and span.start - last.end < narrow
            and max(span.end - span.start, last.end - last.start) < narrow
            and span.end - groups[-1][0].start < 4 * narrow
        ):
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def stamp(time: float) -> str:
    """`2026-11-21 12:34:56Z`."""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(" ", "seconds")[:19] + "Z"
