"""A latent as a card: facts, scores, contexts whose tokens are shaded by activation. For terminals and notebooks."""

from __future__ import annotations

import sys
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from nlsim.errors import IncompleteError
from nlsim.explain.quote import visible
from nlsim.log import printable

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

    from nlsim.api.latent import Latent

STRONG = 0.3
"""Part of the scale above which a token is also marked without colour."""


class Token(NamedTuple):
    """One token of a context."""

    text: str
    value: float
    """Its activation."""
    share: float
    """The same as a part of the latent's robust maximum, at most 1."""


class Score(NamedTuple):
    """One score with its interval."""

    name: str
    value: float
    low: float
    high: float


class Card(NamedTuple):
    """What is drawn."""

    latent: int
    explanation: str
    facts: str
    scores: tuple[Score, ...]
    contexts: tuple[tuple[Token, ...], ...]


def card_of(latent: Latent, contexts: int = 8) -> Card:
    """Gather a card; scores that are not there yet are left out."""
    scale = max(latent.robust_max, 1e-12)
    try:
        rows = latent.scores.to_pylist()
    except IncompleteError:
        rows = []
    shown = tuple(
        tuple(
            Token(printable(visible(text)), value, min(value / scale, 1.0))
            for text, value in zip(row["tokens"], row["activations"], strict=True)
        )
        for row in latent.contexts(contexts).to_pylist()
    )
    return Card(
        latent.id,
        latent.explanation or f"(no explanation: {latent.status})",
        f"active at {latent.density:.3%} of tokens, maximum {latent.robust_max:.3g}",
        tuple(Score(row["scorer"], row["balanced_accuracy"], row["low"], row["high"]) for row in rows),
        shown,
    )


def show(latent: Latent, contexts: int = 8) -> None:
    """Draw in whatever is there: a notebook, or a terminal."""
    card = card_of(latent, contexts)
    if _in_notebook():
        from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

        display(HTML(html(card)))
        return
    terminal().print(rich(card))


def terminal() -> Console:
    """Standard output; without colours where it is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=140, no_color=True)


def rich(card: Card) -> Group:
    """For a terminal: stronger activations on stronger backgrounds; strong ones also between « and »."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(f"latent {card.latent}", style="bold"), Text(printable(card.explanation)), Text(card.facts, "dim")]
    lines += [Text(f"{s.name} {s.value:.3f} [{s.low:.3f}, {s.high:.3f}] balanced accuracy", "dim") for s in card.scores]
    return Group(*lines, Text(), *(_line(context) for context in card.contexts))


def _line(context: tuple[Token, ...]) -> Text:
    from rich.text import Text

    strongest = max((token.value for token in context), default=0.0)
    line = Text(f"{strongest:8.2f}  ", "dim", no_wrap=True, overflow="ellipsis")
    for token in context:
        if token.value <= 0:
            line.append(token.text)
            continue
        text = f"«{token.text}»" if token.share >= STRONG else token.text
        green = round(235 - 135 * token.share)  # pale yellow to deep orange, black text on all of them
        line.append(text, f"black on #{255:02x}{green:02x}{round(180 * (1 - token.share)):02x}")
    return line


def html(card: Card) -> str:
    """For a notebook: no script, no outside file; the number of a token shows on hovering and to screen readers."""
    scores = "".join(
        f"<li>{escape(s.name)}: {s.value:.3f} [{s.low:.3f}, {s.high:.3f}] balanced accuracy</li>" for s in card.scores
    )
    contexts = "".join(f"<li>{''.join(map(_span, context))}</li>" for context in card.contexts)
    return (
        "<div style='font-family:system-ui,sans-serif;max-width:60em'>"
        f"<b>latent {card.latent}</b> {escape(card.explanation)}"
        f"<div style='opacity:.7'>{escape(card.facts)}</div><ul style='margin:.2em 0'>{scores}</ul>"
        f"<ol style='font-family:monospace;white-space:pre-wrap;line-height:1.7'>{contexts}</ol></div>"
    )


def _span(token: Token) -> str:
    if token.value <= 0:
        return escape(token.text)
    style = f"background:rgba(255,140,0,{0.15 + 0.75 * token.share:.2f});border-radius:2px"
    if token.share >= STRONG:
        style += ";text-decoration:underline"
    return f"<span style='{style}' title='{token.value:.3g}'>{escape(token.text)}</span>"


def _in_notebook() -> bool:
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
