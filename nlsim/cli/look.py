"""`nlsim show` and `nlsim diff`: what runs have found, for people and for programs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from nlsim.cli import table
from nlsim.log import printable_json

if TYPE_CHECKING:
    from nlsim.api.compare import Change

RUN = click.option(
    "--run", "url", metavar="URL", required=True, envvar="NLSIM_RUN", help="Folder or s3:// URL of the run."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def show() -> None:
    """Show what a run has found: a latent, or the explanations that hold some words."""


@show.command("latent")
@click.argument("number", type=int)
@RUN
@click.option("--contexts", default=8, show_default=True, type=click.IntRange(0), help="Contexts to show.")
@JSON
def show_latent(number: int, url: str, contexts: int, as_json: bool) -> None:
    """Show latent NUMBER: its explanation, scores, and strongest contexts, tokens shaded by activation."""
    from nlsim.api.draw import card_of, rich, terminal
    from nlsim.api.run import open_run

    card = card_of(open_run(url).latents[number], contexts)
    if as_json:
        facts = {"latent": card.latent, "explanation": card.explanation, "facts": card.facts}
        shown = [[token._asdict() for token in context] for context in card.contexts]
        click.echo(_json({**facts, "scores": [score._asdict() for score in card.scores], "contexts": shown}))
        return
    terminal().print(rich(card))


@show.command("explanations")
@click.argument("words", default="")
@RUN
@click.option("--most", default=50, show_default=True, type=click.IntRange(1), help="Explanations to show.")
@JSON
def show_explanations(words: str, url: str, most: int, as_json: bool) -> None:
    """List explanations that hold WORDS; without them all."""
    from nlsim.api.run import open_run

    found = open_run(url).latents.search(words)
    if as_json:
        click.echo(_json(found.to_pylist()))
        return
    cells = [[str(row["latent"]), row["text"]] for row in found.slice(0, most).to_pylist()]
    table.show(f"{len(found):,} explanations", [">latent", "explanation"], cells)


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--all", "everything", is_flag=True, help="Also list numbers that did not move.")
@JSON
def diff(first: str, second: str, everything: bool, as_json: bool) -> None:
    """Say which numbers of run SECOND differ from run FIRST, and whether chance may explain it.

    Numbers measured on the same windows or latents are compared pair by pair. `higher` and `lower` are at a false
    discovery rate of 5 % over all numbers compared.
    """
    from nlsim.api.compare import compare
    from nlsim.api.run import open_run

    found = compare(open_run(first), open_run(second))
    if as_json:
        rows = [{**change._asdict(), "difference": change.difference._asdict()} for change in found.changes]
        counts = {"only_first": found.only_first, "only_second": found.only_second}
        click.echo(_json({"first": first, "second": second, "settings": found.settings, **counts, "changes": rows}))
        return
    click.echo(f"settings that differ: {', '.join(found.settings) or 'none'}")
    shown = [change for change in found.changes if everything or change.verdict in ("higher", "lower")]
    columns = ["number", "condition", ">first", ">second", ">difference", "95 % interval", "paired by", ""]
    table.show(f"{first} → {second}", columns, [_cells(change) for change in shown])
    counts = {kind: sum(c.verdict == kind for c in found.changes) for kind in ("higher", "lower", "unclear", "same")}
    click.echo(
        ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) + f" of {len(found.changes):,} compared"
    )


def _cells(change: Change) -> list[str]:
    condition = " ".join(f"{key}={value}" for key, value in change.condition.items())
    low, high = change.difference.low, change.difference.high
    interval = f"{low:+.4g} to {high:+.4g}" if math.isfinite(low) and math.isfinite(high) else ""
    numbers = [f"{change.first:.4g}", f"{change.second:.4g}", f"{change.difference.value:+.4g}"]
    return [change.name, condition, *numbers, interval, change.paired, change.verdict]


def _json(value: Any) -> str:
    """JSON in which numbers that are not finite are null."""
    return printable_json(json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
