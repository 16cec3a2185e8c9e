"""The interactive page: one HTML file that needs no network. The data's form is in docs/interactive.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

from nlsim.report.embed import chunk, script_json
from nlsim.report.frame import framed
from nlsim.report.tables import Table


class Kind(NamedTuple):
    """A kind of explanations."""

    name: str
    about: str
    """What explains and what simulates, in words."""


class Page(NamedTuple):
    """Everything the page says."""

    title: str
    subject: str
    """Name of the model under study."""
    found_at: float
    """Calibrated probability from which on a latent counts as found."""
    temperature: float
    """0: the likeliest token is written."""
    kinds: Sequence[Kind]
    prompts: Sequence[Mapping[str, Any]]
    """See `interactive.prompt_record`."""
    explanations: Mapping[str, Mapping[int, str]]
    """Kind → latent → explanation."""
    chunks: Sequence[tuple[Sequence[int], str]]
    """Latents, and their compressed records (see `interactive.latent_chunks`)."""
    summary: Table
    provenance: Mapping[str, str]
    config: str
    """The resolved configuration as YAML."""


def html(page: Page) -> str:
    """The whole page. Equal pages give equal bytes."""
    static = files("nlsim.report") / "static"
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in page.provenance.items())
    kinds = "".join(f"<dt>{escape(kind.name)}</dt><dd>{escape(kind.about)}</dd>" for kind in page.kinds)
    body = (static / "interactive.html").read_text(encoding="utf-8")
    fills = {
        "title": escape(page.title),
        "subject": escape(page.subject),
        "found_at": f"{page.found_at:g}",
        "writes": "the likeliest token" if page.temperature == 0 else f"a sample at temperature {page.temperature:g}",
        "kinds": kinds,
        "summary": page.summary.html(),
        "provenance": facts,
        "config": escape(page.config),
    }
    for name, text in fills.items():
        body = body.replace(f"<!--{name}-->", text)
    return framed(page.title, [body, *_data(page)], ["report.css", "interactive.css"], ["core.js", "interactive.js"])


def _data(page: Page) -> list[str]:
    """The manifest as JSON; prompts, explanations and latents in compressed chunks that are opened when needed."""
    prompts = [
        {"text": "".join(prompt["texts"][0][1 : prompt["begun"]]), "source": prompt["source"]}
        for prompt in page.prompts
    ]
    manifest = {
        "schema": 1,
        "subject": page.subject,
        "found_at": page.found_at,
        "kinds": [kind.name for kind in page.kinds],
        "prompts": prompts,
        "chunks": [list(group) for group, _ in page.chunks],
    }
    packed = {f"prompt-{number}": chunk(prompt) for number, prompt in enumerate(page.prompts)}
    packed["explanations"] = chunk(
        {kind: {str(n): text for n, text in found.items()} for kind, found in page.explanations.items()}
    )
    packed |= {f"latents-{number}": text for number, (_, text) in enumerate(page.chunks)}
    return [
        f'<script type="application/json" id="manifest">{script_json(manifest)}</script>\n',
        *(f'<script type="text/plain" id="{name}">{text}</script>\n' for name, text in packed.items()),
    ]
