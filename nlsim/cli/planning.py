"""What `nlsim plan` prints beside its tables of stages: engines and hardware compared, and what will be downloaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from nlsim.cli import table
from nlsim.errors import UsageError

if TYPE_CHECKING:
    from nlsim.config import Config


def print_comparison(config: Config, prices: tuple[str, ...], as_json: bool) -> None:
    """Hours and price under every engine on every kind of hardware. Raises UsageError for a malformed price."""
    from nlsim.experiments.planner import ENGINES, compare_engines
    from nlsim.pipeline.plan import HARDWARE

    found = compare_engines(config, _prices(prices, [hardware.name for hardware in HARDWARE]))
    if as_json:
        rows = [choice._asdict() for choice in found.choices]
        click.echo(json.dumps({**found._asdict(), "choices": rows}, indent=1))
        return
    by = {(choice.engine, choice.hardware): choice for choice in found.choices}
    cells = []
    for hardware in HARDWARE:
        row = [hardware.name]
        for engine in ENGINES:
            choice = by[engine.name, hardware.name]
            price = f" ${choice.price:,.2f}" if choice.price is not None else ""
            row.append(table.duration(choice.hours * 3600) + price)
        cells.append(row)
    table.show("Model forwards on one device, by engine", ["", *(f">{engine.name}" for engine in ENGINES)], cells)
    for engine in ENGINES:
        click.echo(f"  {engine.name}: computes once {engine.shares}")
    click.echo(f"{table.count(found.predictions)} predictions, {table.size(found.storage)} written by the whole run")
    if found.endpoint:
        click.echo(f"endpoints charge about {found.endpoint:,.2f} (lm.prices)")


def print_downloads(config: Config) -> None:
    """What the hub has to give, with the command that fetches each part for use without a network."""
    from nlsim.experiments.downloads import downloads_of

    needed = downloads_of(config)
    if not needed:
        click.echo("Nothing to download.")
        return
    cells = [[part.use, part.repository, part.part, "here" if part.here else "to download"] for part in needed]
    table.show("From the Hugging Face hub", ["for", "repository", "part", ""], cells)
    if missing := [part for part in needed if not part.here]:
        click.echo("For use offline, on a machine with a network (HF_HOME is the folder to bring):")
        for part in missing:
            table.say(f"  {part.command}")
        if any(part.kind == "dataset" for part in missing):
            click.echo("  or, of a data set, only what the run reads: `nlsim run … --until tokens` there")


def _prices(given: tuple[str, ...], known: list[str]) -> dict[str, float]:
    prices = {}
    for words in given:
        name, sign, price = words.rpartition("=")
        try:
            prices[name] = float(price)
        except ValueError:
            sign = ""
        if not sign or name not in known:
            raise UsageError(f"--price {words!r} is not NAME=DOLLARS", f"known names: {', '.join(known)}")
    return prices
