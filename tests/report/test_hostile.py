"""Hostile text in every place of every page, table and list: it is shown, and does nothing."""

from __future__ import annotations

import csv
import dataclasses
import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hostile import ATTACKS
from interactive_page_data import page
from report_story import story

from nlsim.report import interactive_page
from nlsim.report.heat import Heat
from nlsim.report.make import findings
from nlsim.report.page import Figure, Part, Story, html, markdown
from nlsim.report.svg import Axis, Dot, Dots, Lines, Reference, Series
from nlsim.report.tables import Column, Table

ATTACK = " ".join(ATTACKS)


def told(text: str) -> Story:
    """A story whose every text is `text`."""
    columns = [Column(text), Column(text, text, "lower")]
    table = Table(text, columns, [[text, text], ["=" + text, 3]], text)
    axis = Axis(text)
    series = [Series(text, [0.0, 1.0], [0.0, 1.0], [0.0, 0.5], [0.5, 1.5]), Series(text, [0.0, 1.0], [1.0, 0.0])]
    figures = (
        Figure(Lines(text, axis, axis, series, [Reference(text, 0.5)], True, [Reference(text, 0.5)]), text, table),
        Figure(Dots(text, axis, [Dot(text, 0.5, 0.4, 0.6, 0, text)], [Reference(text, 0.5)]), text),
        Figure(Heat(text, text, text, [[1, 2], [3, 4]]), text),
    )
    base = story(3)
    context = {"max": 4.5, "tokens": [text] * 4, "values": [0, 99, 50, 0]}
    window = {"max": 4.5, "tokens": [text] * 4, "true": [0, 99, 50, 0], "said": [9, 0, 50, 0]}
    score = {"name": text, "value": 0.8, "low": 0.7, "high": 0.9, "n": 20, "failed": 1}
    latents = [{**latent, "text": text if latent["id"] else "", "status": text, "scores": {text: 0.5}}
               for latent in base.browser.latents]  # fmt: skip
    details = {
        latent: {**detail, "scores": [score], "top": [context], "quantiles": [context], "windows": [window]}
        for latent, detail in base.browser.details.items()
    }
    return Story(text, text, text, [text], [Part("losses", text, [text, table, figures])],
                 dataclasses.replace(base.browser, latents=latents, details=details), {text: text}, text,
                 {text: text})  # fmt: skip


def continued(text: str) -> interactive_page.Page:
    """An interactive page whose every text is `text`."""
    made = page(1)
    (first,) = made.prompts
    prompt = {
        **first,
        "source": text,
        "texts": [["", *([text] * (len(tokens) - 1))] for tokens in first["texts"]],
        "words": dict.fromkeys(first["words"], text),
    }
    explanations = {kind: dict.fromkeys(texts, text) for kind, texts in made.explanations.items()}
    kinds = [kind._replace(about=text) for kind in made.kinds]
    about = {"provenance": {text: text}, "config": text, "title": text, "subject": text}
    return made._replace(prompts=[prompt], explanations=explanations, kinds=kinds, **about)


PAGES: dict[str, Callable[[str], str]] = {
    "report": lambda text: html(told(text)),
    "interactive": lambda text: interactive_page.html(continued(text)),
}
SKELETON = """() => [...document.querySelectorAll("*")].map((e) => `${e.localName} ${e.getAttributeNames().sort()}`)"""


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_pages_have_the_same_elements_whatever_they_say(name: str, open_page: Any) -> None:
    """No text makes or unmakes an element or an attribute, opens a dialog, or asks the network for anything."""
    shown = []
    for text in ("harmless", ATTACK):
        opened = open_page(PAGES[name](text))
        opened.page.wait_for_selector(".context .token")
        opened.page.mouse.move(300, 300)
        opened.page.mouse.wheel(0, 400)
        assert opened.errors == []
        assert opened.requests == []
        shown.append(opened.page.evaluate(SKELETON))
        assert len(shown[-1]) > 150
    assert shown[0] == shown[1]
    assert "onmouseover=alert(1)" in opened.page.locator("h1").inner_text(), "it is shown"


INJECTED = """
<img src="ATTACKER/image" onerror="document.title = 'event'">
<script>document.title = "script"</script>
<script src="ATTACKER/script.js"></script>
<style>h1 { color: rgb(1, 2, 3) }</style><p id="styled" style="color: rgb(1, 2, 3)">p</p>
<link rel="stylesheet" href="ATTACKER/style.css">
<iframe src="ATTACKER/frame"></iframe><object data="ATTACKER/object"></object>
<form id="form" action="ATTACKER/form"></form>
"""


class Attacker:
    """A server that notes every request."""

    def __init__(self) -> None:
        asked = self.asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_error(404)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    made = Attacker()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_the_policy_stops_what_should_ever_get_in(name: str, open_page: Any, attacker: Attacker) -> None:
    """A page into which elements were put all the same: its own script runs, nothing else does or is fetched."""
    evil = INJECTED.replace("ATTACKER", attacker.url)
    opened = open_page(PAGES[name]("harmless").replace("</main>", f"{evil}</main>"), offline=False)
    opened.page.wait_for_selector(".context .token")
    assert opened.page.title() == "harmless"
    assert opened.page.locator("#styled").evaluate("e => getComputedStyle(e).color") != "rgb(1, 2, 3)"
    sinks = [
        "document.body.innerHTML = '<b>b</b>'",
        "document.write('<b>b</b>')",
        "document.createElement('script').text = '1'",
        "trustedTypes.createPolicy('any', {})",
    ]
    tried = "() => { try { %s; return 'done' } catch (error) { return error.name } }"
    assert [opened.page.evaluate(tried % sink) for sink in sinks] == ["TypeError"] * len(sinks)
    connect = "(url) => fetch(url).then(() => 'sent', (error) => error.name)"
    assert opened.page.evaluate(connect, f"{attacker.url}/fetch") == "TypeError"
    sent = "document.addEventListener('securitypolicyviolation', (event) => stop(event.effectiveDirective))"
    submit = "document.getElementById('form').submit()"
    assert opened.page.evaluate(f"() => new Promise((stop) => {{ {sent}; {submit}; }})") == "form-action"
    assert attacker.asked == []
    assert opened.page.url.startswith("file:")


def test_markdown_holds_no_markup() -> None:
    import markdown as renderer

    rendered = [renderer.markdown(markdown(told(text)), extensions=["tables"]) for text in ("harmless", ATTACK)]
    assert [text.count("<td") for text in rendered] == [rendered[0].count("<td")] * 2
    for found in ("<script", "<img", "<a ", "<iframe", "<svg", "<code", "<base", "<!--"):
        assert found not in rendered[1], found
    assert all(c.isprintable() or c == "\n" for c in markdown(told(ATTACK)))


def test_no_cell_of_a_csv_is_a_formula() -> None:
    for begin in ("=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n =1"):
        table = Table("t", [Column(begin), Column("n")], [[begin, begin], [begin, -1]])
        heading, *rows = csv.reader(io.StringIO(table.csv(), newline=""))
        cells = [heading[0], *(cell for row in rows for cell in row)]
        assert cells == [f"'{begin.strip()}"] * 4 + ["-1"], "numbers keep their sign"


def test_findings_cannot_drive_the_terminal() -> None:
    lines = findings(told(ATTACK)).splitlines()
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)
