"""The report's page: one HTML file that needs no network, opens from disk, and reads without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

from nlsim.report.embed import chunk, script_json
from nlsim.report.frame import framed
from nlsim.report.heat import Heat
from nlsim.report.spans import Spans
from nlsim.report.svg import Dots, Lines
from nlsim.report.tables import Table, plain

LATENTS_PER_CHUNK = 32


class Figure(NamedTuple):
    """A drawing with its caption and the numbers it shows."""

    drawing: Lines | Dots | Heat | Spans
    caption: str
    """What is shown, what the intervals are, and n."""
    table: Table | None = None


@dataclass(frozen=True)
class Part:
    """A section of the page: paragraphs, tables and figures in order."""

    anchor: str
    title: str
    items: Sequence[str | Table | Figure | tuple[Figure, ...]]
    """Strings are paragraphs of plain text; a tuple of figures stands side by side."""


@dataclass(frozen=True)
class Browser:
    """What the latent browser shows."""

    latents: Sequence[Mapping[str, Any]]
    """One small record per latent, for the list: id, text, status, density, score, auc, scores."""
    details: Mapping[int, Mapping[str, Any]]
    """One larger record per latent, opened on demand."""


@dataclass(frozen=True)
class Story:
    """Everything the page says."""

    title: str
    subtitle: str
    headline: str
    findings: Sequence[str]
    parts: Sequence[Part]
    browser: Browser
    provenance: Mapping[str, str]
    config: str
    """The resolved configuration as YAML."""
    downloads: Mapping[str, str]
    """File beside the page → what it holds."""


def html(story: Story) -> str:
    """The whole page. Equal stories give equal bytes."""
    anchors = [("finding", "Finding"), *((part.anchor, part.title) for part in story.parts)]
    anchors += [("browse", "Latents"), ("provenance", "Provenance")]
    navigation = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title in anchors)
    findings = "".join(f"<li>{escape(finding)}</li>" for finding in story.findings)
    body = [
        '<a class="skip" href="#finding">Skip to the finding</a>\n',
        f'<header><div><h1>{escape(story.title)}</h1><div class="soft">{escape(story.subtitle)}</div></div>',
        '<button id="theme" type="button" hidden>Theme: auto</button></header>\n',
        f'<nav aria-label="Sections"><ul>{navigation}</ul></nav>\n<main>\n',
        f'<section id="finding" aria-label="Finding"><p class="headline">{escape(story.headline)}</p>',
        f'<ul class="findings">{findings}</ul></section>\n',
        *(section(part) for part in story.parts),
        _browser(story.browser),
        _provenance(story),
        "</main>\n",
        *_data(story.browser),
    ]
    return framed(story.title, body, ["report.css"], ["core.js", "report.js"])


def markdown(story: Story) -> str:
    """The same findings and tables as Markdown, without figures and browser."""
    lines = [f"# {plain(story.title)}\n", f"{plain(story.subtitle)}\n", f"**{plain(story.headline)}**\n"]
    lines += [f"- {plain(finding)}" for finding in story.findings]
    for part in story.parts:
        lines.append(f"\n## {plain(part.title)}\n")
        for item in part.items:
            if isinstance(item, str):
                lines.append(f"{plain(item)}\n")
            elif isinstance(item, Table):
                lines.append(item.markdown())
            else:
                figures = (item,) if isinstance(item, Figure) else item
                lines += [figure.table.markdown() for figure in figures if figure.table is not None]
    lines.append("\n## Provenance\n")
    lines += [f"- {plain(name)}: {plain(value)}" for name, value in story.provenance.items()]
    return "\n".join(lines) + "\n"


def tables(story: Story) -> dict[str, Table]:
    """Every table of the page by a file name."""
    found: dict[str, Table] = {}
    for part in story.parts:
        for item in part.items:
            figures = item if isinstance(item, tuple) else (item,)
            for one in figures:
                table = one.table if isinstance(one, Figure) else one
                if isinstance(table, Table):
                    found[f"{part.anchor}-{len(found) + 1}"] = table
    return found


def section(part: Part) -> str:
    """A part as HTML."""
    return (
        f'<section id="{part.anchor}" aria-labelledby="{part.anchor}-title"><h2 id="{part.anchor}-title">'
        f"{escape(part.title)}</h2>{''.join(_item(item) for item in part.items)}</section>\n"
    )


def _item(item: str | Table | Figure | tuple[Figure, ...]) -> str:
    if isinstance(item, str):
        return f"<p>{escape(item)}</p>"
    if isinstance(item, Table):
        return item.html()
    if isinstance(item, Figure):
        return _figure(item)
    return f'<div class="pair">{"".join(_figure(figure) for figure in item)}</div>'


def _figure(figure: Figure) -> str:
    data = f"<details><summary>Data</summary>{figure.table.html()}</details>" if figure.table is not None else ""
    caption = f"<strong>{escape(figure.drawing.title)}.</strong> {escape(figure.caption)}"
    return f"<figure>{figure.drawing.svg()}<figcaption>{caption}</figcaption>{data}</figure>"


def _browser(browser: Browser) -> str:
    if not browser.latents:
        return '<section id="browse"><h2>Latents</h2><p>No latents to show.</p></section>\n'
    return (
        '<section id="browse" aria-labelledby="browse-title"><h2 id="browse-title">Latents</h2>'
        "<noscript><p>The latent browser needs a script; everything above does not.</p></noscript>"
        '<div id="browser" hidden><div class="tools"><label>Search <input id="search" type="search" '
        'placeholder="words or #id"></label><label>Sort by <select id="order"><option value="score">explanation score'
        '</option><option value="auc">simulation AUC</option><option value="density">density</option>'
        '<option value="id">id</option></select></label><span id="told" class="soft" role="status"></span></div>'
        '<div class="browser"><ul id="latents" aria-label="Latents"></ul>'
        '<div id="detail" role="region" tabindex="0" aria-label="Chosen latent" aria-live="polite"></div></div></div>'
        "</section>\n"
    )


def _provenance(story: Story) -> str:
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in story.provenance.items())
    links = "".join(
        f'<li><a href="{escape(name, quote=True)}">{escape(name)}</a>: {escape(what)}</li>'
        for name, what in story.downloads.items()
    )
    return (
        '<section id="provenance" aria-labelledby="provenance-title"><h2 id="provenance-title">Provenance</h2>'
        f"<dl>{facts}</dl>"
        f"<h3>Beside this page</h3><ul>{links}</ul>"
        f'<details><summary>Configuration</summary><pre tabindex="0">{escape(story.config)}</pre></details></section>\n'
    )


def _data(browser: Browser) -> list[str]:
    """The browser's data: the list as JSON, the details in compressed chunks."""
    latents, chunks = [], []
    for start in range(0, len(browser.latents), LATENTS_PER_CHUNK):
        group = browser.latents[start : start + LATENTS_PER_CHUNK]
        number = start // LATENTS_PER_CHUNK
        latents += [{**latent, "chunk": number} for latent in group]
        packed = chunk({str(latent["id"]): browser.details[latent["id"]] for latent in group})
        chunks.append(f'<script type="text/plain" id="chunk-{number}">{packed}</script>\n')
    manifest = script_json({"schema": 1, "latents": latents})
    return [f'<script type="application/json" id="manifest">{manifest}</script>\n', *chunks]
