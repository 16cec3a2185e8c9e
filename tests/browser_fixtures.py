"""A browser without a network, as fixtures."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Opened(NamedTuple):
    """A page in the browser, with what went wrong on it and what it asked the network for."""

    page: Any
    errors: list[str]
    requests: list[str]


def chromium() -> str | None:
    """The browser to test with, if there is one."""
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    return os.environ.get("NLSIM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. Without one the tests are skipped, or fail where CI says that there must be one."""
    path = chromium()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found: `apt-get install chromium`")
        pytest.skip("no Chromium found")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Open HTML text from a file, offline; keyword arguments are those of a browser context."""
    contexts = []

    def opened(text: str, fragment: str = "", **options: Any) -> Opened:
        path = tmp_path / "index.html"
        path.write_text(text, encoding="utf-8")
        settings = {"offline": True, "viewport": {"width": 1200, "height": 900}, **options}
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        errors: list[str] = []
        requests: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri() + fragment)
        if options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready]")
        return Opened(page, errors, [url for url in requests if not url.startswith(("file:", "blob:"))])

    yield opened
    for context in contexts:
        context.close()
