"""Tables: one description, written as HTML, Markdown or CSV. Numbers come with their interval and n."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, NamedTuple

from nlsim.log import one_line
from nlsim.report.svg import number


class Column(NamedTuple):
    """A column's heading."""

    name: str
    unit: str = ""
    better: Literal["", "higher", "lower"] = ""
    """Which direction is good; shown as an arrow."""

    @property
    def heading(self) -> str:
        arrow = {"": "", "higher": " ↑", "lower": " ↓"}[self.better]
        return f"{self.name}{arrow}" + (f" ({self.unit})" if self.unit else "")


class Number(NamedTuple):
    """A number with its interval. NaN: it could not be computed."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def text(self) -> str:
        """`3.19 (3.10 to 3.28)`, or without the interval where there is none."""
        interval = self.interval()
        return f"{self.rounded()} ({interval})" if interval else self.rounded()

    def rounded(self) -> str:
        """The value, with no more decimals than its interval bears."""
        return number(self.value, self._decimals())

    def interval(self) -> str:
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return f"{number(self.low, self._decimals())} to {number(self.high, self._decimals())}" if known else ""

    def _decimals(self) -> int | None:
        """Decimals that show the interval's width with two digits; None without an interval of some width, and for
        numbers so small that they are written with an exponent."""
        width = self.high - self.low
        if not (math.isfinite(width) and width > 0) or max(abs(self.low), abs(self.high)) < 1e-3:
            return None
        return min(max(1 - math.floor(math.log10(width)), 0), 9)


_MARKS = re.compile(r"[\\`\[\]|<&]")
_ENTITIES = {"<": "&lt;", "&": "&amp;"}

Cell = str | int | Number | None
"""Text, a count, a number with interval, or None: was not run."""


@dataclass(frozen=True)
class Table:
    """A titled table. The first cell of a row is its heading."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    """What the numbers are, their interval and n, below the table."""
    strong: frozenset[int] = frozenset()
    """Rows that are set in bold."""

    def html(self) -> str:
        """An HTML table that scrolls sideways where the page is narrow."""
        head = "".join(
            f'<th scope="col"{"" if place == 0 else " class=n"}>{escape(column.heading)}</th>'
            for place, column in enumerate(self.columns)
        )
        body = "".join(
            f'<tr{" class=strong" if place in self.strong else ""}><th scope="row">{escape(str(row[0]))}</th>'
            + "".join(_html(cell) for cell in row[1:])
            + "</tr>"
            for place, row in enumerate(self.rows)
        )
        caption = escape(self.title) + (f". {escape(self.note)}" if self.note else "")
        return (
            f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(self.title, quote=True)}"><table>'
            f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def markdown(self) -> str:
        """A Markdown table with its title above and its note below."""
        lines = [
            f"**{plain(self.title)}**\n",
            "| " + " | ".join(plain(column.heading) for column in self.columns) + " |",
            "|" + "|".join("---" if place == 0 else "---:" for place in range(len(self.columns))) + "|",
        ]
        lines += ["| " + " | ".join(plain(_text(cell)) for cell in row) + " |" for row in self.rows]
        return "\n".join(lines) + (f"\n\n{plain(self.note)}" if self.note else "") + "\n"

    def csv(self) -> str:
        """CSV with full precision; a number with an interval takes three columns. No text is a formula."""
        wide = [any(isinstance(row[place], Number) for row in self.rows) for place in range(len(self.columns))]
        heading: list[str] = []
        for column, is_wide in zip(self.columns, wide, strict=True):
            heading += [column.name, f"{column.name}_low", f"{column.name}_high"] if is_wide else [column.name]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(map(_inert, heading))
        for row in self.rows:
            cells: list[str | int | float] = []
            for cell, is_wide in zip(row, wide, strict=True):
                values = list(cell) if isinstance(cell, Number) else [cell, None, None][: 3 if is_wide else 1]
                cells += ["" if v is None or (isinstance(v, float) and math.isnan(v)) else _inert(v) for v in values]
            writer.writerow(cells)
        return buffer.getvalue()


def _text(cell: Cell) -> str:
    if cell is None:
        return "not run"
    if isinstance(cell, Number):
        return cell.text()
    return f"{cell:,}" if isinstance(cell, int) else cell


def plain(text: str) -> str:
    """Text as one line of Markdown that shows it as it is: no element, named link, image, code or cell begins in it."""
    return _MARKS.sub(lambda found: _ENTITIES.get(found[0], "\\" + found[0]), one_line(text))


def _inert(value: str | int | float) -> str | int | float:
    """A cell of CSV, text on one line; text that a spreadsheet would take for a formula gets an apostrophe."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text or value


def _html(cell: Cell) -> str:
    if isinstance(cell, Number) and cell.interval():
        return f'<td class="n">{escape(cell.rounded())}<br><small>{escape(cell.interval())}</small></td>'
    return f'<td class="n">{escape(_text(cell))}</td>'
