"""The page in a real browser: no network, no errors, hostile text inert, keyboard, links, themes, sizes, axe."""

import importlib.resources
import math
import re
from typing import Any

import pytest
from report_story import HOSTILE, story

from nlsim.report.page import html, markdown, tables
from nlsim.report.tables import Number

pytestmark = pytest.mark.browser


def test_opens_from_disk_without_network_or_errors(open_page: Any) -> None:
    opened = open_page(html(story()))
    assert opened.errors == []
    assert opened.requests == []
    assert opened.page.title() == "A <tiny> run"
    assert opened.page.locator("svg").count() == 2
    assert opened.page.locator("#latents li").count() == 40


def test_hostile_text_is_inert_and_shown_as_it_is(open_page: Any) -> None:
    opened = open_page(html(story()))
    page = opened.page
    page.wait_for_selector("#detail .context")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2 + 2, "the page's script, the manifest and two chunks"
    shown = page.locator("#detail .context").first.locator(".token").all_text_contents()
    for token, text in zip(HOSTILE, shown, strict=True):
        if not re.search(r"[\n\t\u200d\u202e]", token):
            assert text == token
    assert shown[HOSTILE.index("\n")] == "⏎\n"
    assert shown[HOSTILE.index("\u202eevil")] == "U+202eevil"


def test_search_sort_and_keyboard(open_page: Any) -> None:
    page = open_page(html(story())).page
    page.fill("#search", "explanation 3")
    assert page.locator("#told").inner_text() == "11 of 40 latents"
    page.select_option("#order", "id")
    assert "#3 ·" in page.locator("#latents li").first.text_content()
    page.locator("#latents button[tabindex='0']").focus()
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('#detail h3').textContent === 'Latent 39'")
    assert page.evaluate("location.hash") == "#latent=39"
    page.keyboard.press("ArrowUp")
    page.wait_for_function("document.querySelector('#detail h3').textContent === 'Latent 38'")
    assert page.locator("#latents [aria-current='true']").count() == 1


def test_a_link_to_a_latent_opens_it_and_a_wrong_one_does_not_hurt(open_page: Any) -> None:
    page = open_page(html(story()), "#latent=17").page
    page.wait_for_function("document.querySelector('#detail h3').textContent === 'Latent 17'")
    page.evaluate("location.hash = '#latent=5'")
    page.wait_for_function("document.querySelector('#detail h3').textContent === 'Latent 5'")
    opened = open_page(html(story()), "#latent=99999")
    opened.page.wait_for_selector("#detail h3")
    assert opened.errors == []


def test_reads_without_a_script(open_page: Any) -> None:
    page = open_page(html(story()), java_script_enabled=False).page
    assert page.locator("svg").count() == 2
    assert page.locator("table").count() == 2
    assert "English recovers 61 %" in page.locator("main").inner_text()
    assert page.locator("#browser").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page: Any, scheme: str) -> None:
    opened = open_page(html(story()), bypass_csp=True, color_scheme=scheme)
    opened.page.wait_for_selector("#detail .context")
    source = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    opened.page.add_script_tag(content=source.read_text(encoding="utf-8"))
    result = opened.page.evaluate("axe.run()")
    serious = [v["id"] for v in result["violations"] if v["impact"] in ("serious", "critical")]
    assert serious == []
    assert len(result["passes"]) > 15


def test_narrow_windows_do_not_scroll_sideways(open_page: Any) -> None:
    page = open_page(html(story()), viewport={"width": 400, "height": 800}).page
    page.wait_for_selector("#detail .context")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_theme_button_goes_round(open_page: Any) -> None:
    page = open_page(html(story()), color_scheme="light").page
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    page.click("#theme")
    assert page.locator("#theme").inner_text() == "Theme: dark"
    assert page.evaluate(background) != light
    page.click("#theme")
    assert page.evaluate(background) == light


def test_works_in_a_sandboxed_frame(open_page: Any) -> None:
    from html import escape

    frame = f'<iframe sandbox="allow-scripts" srcdoc="{escape(html(story()))}"></iframe>'
    opened = open_page(f'<!doctype html><html data-ready="1">{frame}</html>')
    opened.page.frame_locator("iframe").locator("html[data-ready]").wait_for()
    assert opened.errors == []


def test_ten_thousand_latents_stay_usable(open_page: Any) -> None:
    opened = open_page(html(story(10_000)))
    page = opened.page
    assert page.locator("#latents li").count() == 10_000
    page.fill("#search", "explanation 9999")
    assert page.locator("#latents li").count() == 1
    page.fill("#search", "")
    page.locator("#latents button[tabindex='0']").focus()
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "document.activeElement.closest('li') && document.querySelectorAll('#latents li').length === 10000"
    )
    assert opened.errors == []


def test_the_same_story_gives_the_same_bytes() -> None:
    assert html(story()) == html(story())


def test_markdown_and_tables_hold_the_same_numbers() -> None:
    text = markdown(story())
    assert "| clean | 3.19 (3.10 to 3.27) | 64 |" in text
    assert "| absent | not run | 0 |" in text
    found = tables(story())
    assert list(found) == ["losses-1", "losses-2"]
    assert found["losses-1"].csv().splitlines()[:2] == [
        "condition,cross-entropy,cross-entropy_low,cross-entropy_high,n",
        "clean,3.185,3.1,3.27,64",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number(0.0003205, -0.00165, 0.002772), "0.0003 (−0.0016 to 0.0028)"),
        (Number(-0.08079, -0.09922, -0.06509), "−0.081 (−0.099 to −0.065)"),
        (Number(1234.5, 1000.0, 1400.0), "1,234 (1,000 to 1,400)"),
        (Number(-0.0, -0.01, 0.01), "0.000 (−0.010 to 0.010)"),
        (Number(0.5, 0.5, 0.5), "0.5 (0.5 to 0.5)"),
        (Number(math.nan), "n/a"),
    ],
)
def test_numbers_have_the_decimals_that_their_interval_bears(number: Number, text: str) -> None:
    assert number.text() == text
