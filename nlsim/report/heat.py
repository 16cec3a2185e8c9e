"""Heat maps as SVG text: a grid of cells, the shade of each its share of its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nlsim.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number, wrapped


@dataclass(frozen=True)
class Heat:
    """Counts [columns][rows], rows from the bottom up. Shades compare inside a column; titles give the numbers."""

    title: str
    across: str
    """What the columns are."""
    up: str
    """What the rows are."""
    counts: Sequence[Sequence[float]]

    def svg(self) -> str:
        """The figure as an `<svg>` element."""
        columns, rows = len(self.counts), max((len(column) for column in self.counts), default=1)
        wide, high = (WIDTH - LEFT - RIGHT) / max(columns, 1), (HEIGHT - TOP - BOTTOM) / rows
        marks = []
        for i, column in enumerate(self.counts):
            total, most = sum(column), max(column, default=0.0)
            x = LEFT + i * wide
            marks.append(_tick(x + wide / 2, HEIGHT - BOTTOM + 16, "middle", i))
            for j, count in enumerate(column):
                y = HEIGHT - BOTTOM - (j + 1) * high
                share = count / total if total else 0.0
                shade = 0.04 + 0.96 * (count / most if most else 0.0)
                says = f"{self.across} {i}, {self.up} {j}: {count:,.0f} of {total:,.0f} ({number(100 * share)} %)"
                marks.append(
                    f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{wide - 1:.1f}" height="{high - 1:.1f}" '
                    f'fill-opacity="{shade:.2f}"><title>{escape(says)}</title></rect>'
                )
        marks += [_tick(LEFT - 8, HEIGHT - BOTTOM - (j + 0.5) * high + 4, "end", j) for j in range(rows)]
        middle = (TOP + HEIGHT - BOTTOM) / 2
        marks.append(
            f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 38}" text-anchor="middle">'
            f"{escape(self.across)}</text>"
            f'<text class="axis" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
            f"{escape(self.up)}</text>"
        )
        return wrapped(self.title, f'<g class="s1">{"".join(marks)}</g>', HEIGHT)


def _tick(x: float, y: float, anchor: str, value: int) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{value}</text>'
