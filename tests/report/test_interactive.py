"""The interactive page in a real browser: no network, hostile text inert, keyboard, links, themes, sizes, axe."""

import importlib.resources
import json
import re
from html import escape
from typing import Any

import pytest
from interactive_page_data import BEGUN, WRITTEN, page
from playwright.sync_api import expect
from report_story import HOSTILE

from nlsim.report.interactive import common_length, fitting, named
from nlsim.report.interactive_page import html

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def text() -> str:
    return html(page())


def pressed(opened: Any) -> int:
    return int(opened.locator("#strip [aria-pressed='true']").get_attribute("data-t"))


def test_opens_from_disk_without_network_or_errors(open_page: Any, text: str) -> None:
    opened = open_page(text)
    assert opened.errors == []
    assert opened.requests == []
    assert opened.page.title() == "A <tiny> run: continuations"
    assert opened.page.locator("#strip .col").count() == BEGUN + WRITTEN - 1
    assert opened.page.locator("#latents button").count() == 12


def test_tokens_are_coloured_and_labelled_by_kl(open_page: Any, text: str) -> None:
    data = page().prompts[0]["steps"][0]["top:0.7"]["kl"]
    opened = open_page(text, "#condition=top&fraction=0.7").page
    shown = opened.locator("#strip .tok.a small").all_text_contents()
    assert [float(label.replace("<", "")) for label in shown] == pytest.approx(data, abs=0.001)
    edges = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
    for kl, style in zip(
        data, opened.locator("#strip .tok.a").evaluate_all("all => all.map(e => e.className)"), strict=True
    ):
        assert f"k{sum(kl >= edge for edge in edges)}" in style.split()
    colours = opened.locator("#scale [class^=k]").evaluate_all(
        "all => all.map(e => getComputedStyle(e).backgroundColor)"
    )
    assert len(set(colours)) == 8


def test_hostile_text_is_inert_and_shown_as_it_is(open_page: Any, text: str) -> None:
    opened = open_page(text, "#token=9").page
    opened.wait_for_selector("#detail-body .context .token")
    assert opened.locator("img, b > script, main script").count() == 0
    assert opened.locator("h1").inner_text() == "A <tiny> run: continuations"
    shown = opened.locator("#detail-body h3 + .context").first.locator(".token").all_text_contents()
    for token, found in zip(HOSTILE, shown, strict=True):
        if not re.search(r"[\n\t\u200d\u202e]", token):
            assert found == token


def test_conditions_and_fractions_change_what_is_kept(open_page: Any, text: str) -> None:
    opened = open_page(text, "#condition=top&fraction=0.3&token=7").page
    assert opened.locator("#latents .mark.kept").count() == 4
    opened.locator("#fraction").focus()
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#kept").inner_text() == "70 %"
    assert opened.locator("#latents .mark.kept").count() == 8
    opened.keyboard.press("End")
    assert opened.locator("#kept").inner_text() == "all"
    assert "Rebuilt from all true latents" in opened.locator("#said").inner_text()
    opened.keyboard.press("Home")
    assert opened.locator("#latents .mark.kept").count() == 0
    opened.select_option("#kind", "top")
    opened.locator("#conditions").get_by_text("found latents").click()
    assert opened.locator("#fraction").is_disabled()
    assert set(opened.locator("#latents .mark span").all_text_contents()) == {
        "found",
        "missed",
        "no explanation",
        "false alarm",
    }
    assert (
        "explanations (top) find 5 of 10; 3 false alarms among 1,190 silent ones asked about (1 shown)"
        in opened.locator("#counted").inner_text()
    )


def test_own_texts_are_shown_with_their_own_latents(open_page: Any, text: str) -> None:
    data = page().prompts[0]
    own = data["texts"][data["free"]["none"]]
    opened = open_page(text, "#condition=top&fraction=0&mode=own&compare=").page
    shown = opened.locator("#strip .tok.a .word").all_text_contents()
    assert len(shown) == len(own) - BEGUN
    assert opened.locator("#strip .tok.a.other").count() > 0
    assert opened.locator("#strip .tok.a.gone").count() == len(data["texts"][0]) - len(own)
    assert "were not asked about this text" in opened.locator("#counted").inner_text()


def test_the_keyboard_goes_from_tokens_to_latents_and_back(open_page: Any, text: str) -> None:
    opened = open_page(text).page
    opened.locator("#strip [aria-pressed='true']").focus()
    start = pressed(opened)
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    assert pressed(opened) == start + 2
    opened.keyboard.press("Home")
    assert pressed(opened) == 1
    opened.keyboard.press("End")
    assert pressed(opened) == BEGUN + WRITTEN - 1
    opened.keyboard.press("Enter")
    first = opened.evaluate("document.activeElement.dataset.latent")
    assert first
    opened.keyboard.press("ArrowDown")
    second = opened.evaluate("document.activeElement.dataset.latent")
    assert second != first
    expect(opened.locator("#detail-title")).to_have_text(f"Latent {second}")
    assert opened.locator("#latents [aria-current='true']").count() == 1
    opened.keyboard.press("Escape")
    assert opened.evaluate("document.activeElement.dataset.t") == str(BEGUN + WRITTEN - 1)


def test_links_lead_to_what_was_shown_and_wrong_ones_do_not_hurt(open_page: Any, text: str) -> None:
    opened = open_page(text, "#prompt=2&condition=help&kind=top&compare=none&token=8&latent=50&mode=same").page
    expect(opened.locator("#detail-title")).to_have_text("Latent 50")
    assert opened.locator("#prompt").input_value() == "2"
    assert opened.locator("#compare").input_value() == "none"
    assert pressed(opened) == 8
    opened.locator("#strip [data-t='9']").click()
    link = opened.evaluate("location.hash")
    assert "token=9" in link
    again = open_page(text, link).page
    assert pressed(again) == 9
    assert again.evaluate("location.hash") == link
    again.evaluate("location.hash = '#prompt=1&token=6'")
    expect(again.locator("#prompt")).to_have_value("1")
    assert pressed(again) == 6
    for wrong in ("#prompt=99", "#condition=evil&fraction=7&token=-1", "#token=9999", "#latent=<img>&kind=%00", "#%%%"):
        bad = open_page(text, wrong)
        assert bad.errors == []
        assert bad.page.locator("#strip [aria-pressed='true']").count() == 1


def test_searching_filtering_and_sorting_latents(open_page: Any, text: str) -> None:
    opened = open_page(text, "#condition=help&kind=quantiles&token=7").page
    opened.select_option("#filter", "false")
    assert opened.locator("#latents button").get_attribute("data-latent") == "1199"
    opened.select_option("#filter", "all")
    opened.select_option("#order", "probability")
    chances = [
        float(found)
        for found in re.findall(
            r"P\(active\) ([\d.]+)", " ".join(opened.locator("#latents .facts").all_text_contents())
        )
    ]
    assert chances == sorted(chances, reverse=True)
    opened.fill("#search", "#1199")
    assert opened.locator("#latents button").count() == 1
    opened.fill("#search", "nothing like it")
    assert "Nothing to show" in opened.locator("#latents").inner_text()


def test_says_so_and_keeps_its_table_without_a_script(open_page: Any, text: str) -> None:
    opened = open_page(text, java_script_enabled=False).page
    assert "need a script" in opened.locator("main").inner_text()
    assert opened.locator("#all table tbody tr, #all table tr").count() >= 11
    assert opened.locator("#app").is_hidden()


@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}]
)
def test_axe_finds_nothing_serious(open_page: Any, text: str, options: dict[str, Any]) -> None:
    opened = open_page(text, "#condition=top&fraction=0.3", bypass_csp=True, **options)
    opened.page.wait_for_selector("#detail-body .context")
    source = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    opened.page.add_script_tag(content=source.read_text(encoding="utf-8"))
    result = opened.page.evaluate("axe.run()")
    assert [
        (v["id"], v["nodes"][0]["html"]) for v in result["violations"] if v["impact"] in ("serious", "critical")
    ] == []
    assert len(result["passes"]) > 15


def test_phones_do_not_scroll_sideways_and_touch_reaches_everything(open_page: Any, text: str) -> None:
    opened = open_page(text, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).page
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.locator("#strip [data-t='8']").tap()
    assert pressed(opened) == 8
    opened.locator("#latents button").nth(2).tap()
    chosen = opened.locator("#latents [aria-current='true']").get_attribute("data-latent")
    expect(opened.locator("#detail-title")).to_have_text(f"Latent {chosen}")
    small = opened.locator("#app button, #app select, #app .pills span").evaluate_all(
        "all => all.filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 24).length"
    )
    assert small == 0


def test_forced_colours_and_reduced_motion(open_page: Any, text: str) -> None:
    opened = open_page(text, forced_colors="active", reduced_motion="reduce")
    assert opened.errors == []
    assert opened.page.locator(".tok.a").first.evaluate("e => getComputedStyle(e).borderTopStyle") == "solid"
    assert opened.page.locator(".pills span").first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"


def test_works_in_a_sandboxed_frame(open_page: Any, text: str) -> None:
    frame = f'<iframe sandbox="allow-scripts" srcdoc="{escape(text)}"></iframe>'
    opened = open_page(f'<!doctype html><html data-ready="1">{frame}</html>')
    opened.page.frame_locator("iframe").locator("html[data-ready]").wait_for()
    opened.page.frame_locator("iframe").locator("#strip [data-t='9']").click()
    assert opened.errors == []


def test_a_thousand_latents_at_a_token_stay_usable(open_page: Any) -> None:
    opened = open_page(html(page(1, active=1000)), "#condition=top&fraction=0.7&token=9")
    assert opened.page.locator("#latents button").count() < 40
    assert opened.page.locator("#latents li:not(.space)").first.get_attribute("aria-setsize") == "1000"
    opened.page.locator("#latents [tabindex='0']").focus()
    opened.page.keyboard.press("End")
    assert opened.page.evaluate("document.activeElement.closest('li').ariaPosInSet") == "1000"
    opened.page.keyboard.press("ArrowUp")
    assert opened.page.evaluate("document.activeElement.closest('li').ariaPosInSet") == "999"
    opened.page.locator("#latents").evaluate("list => { list.scrollTop = list.scrollHeight / 2; }")
    expect(opened.page.locator("#latents li:has(button)").first).to_have_attribute(
        "aria-posinset", re.compile(r"4[789]\d|50\d")
    )
    assert opened.page.locator("#latents button").count() < 40
    assert opened.errors == []


def test_the_same_page_gives_the_same_bytes_and_holds_json() -> None:
    made = html(page())
    assert made == html(page())
    manifest = re.search(r'id="manifest">(.*?)</script>', made)
    assert manifest
    assert json.loads(manifest[1])["kinds"] == ["quantiles", "top"]
    assert "<!--" not in made.replace("<!doctype", "").split("<script>")[0].replace("<!--<script>", "")


def test_contexts_are_left_out_where_there_is_no_room() -> None:
    chunks = [([1, 2], "x" * 500), ([3], "y" * 500), ([4], "z")]
    assert list(fitting(chunks, 1500)) == chunks[:2]
    assert list(fitting(chunks, 600)) == []


def test_names_and_lengths() -> None:
    assert named("top:0.3") == "strongest 30%"
    assert named("help:base") == "found latents (base)"
    assert named("coder") == "all true latents"
    assert common_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_length([1], [1, 2]) == 1
