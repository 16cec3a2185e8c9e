"""Text, tables and numbers as the command line prints them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from nlsim.log import printable


def say(text: str) -> None:
    """Print text that may come from elsewhere: it cannot drive the terminal."""
    click.echo(printable(text))


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Columns whose name starts with `>` are right-aligned. No cell can drive the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from nlsim.api.draw import terminal

    heading = Text(printable(title), style="table.title") if title else None
    table = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    terminal().print(table)


def count(value: float) -> str:
    """`12,345`, or `32.8 M` from a million on; `–` for zero."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.0f}" if value else "–"


def size(value: float) -> str:
    """Bytes in decimal units, e.g. `1.3 GB`; `–` for zero."""
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f} B" if value else "–"


def duration(seconds: float) -> str:
    """`3 s`, `4.2 min`, `7.9 h` or `18 d`."""
    if seconds <= 0:
        return "–"
    for limit, unit in ((86_400 * 3, 86_400), (3_600 * 1.5, 3_600), (90, 60)):
        if seconds >= limit:
            return f"{seconds / unit:.1f} {({86_400: 'd', 3_600: 'h', 60: 'min'})[unit]}"
    return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
