"""The frame of every page: one HTML file that runs its own script and nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files


def framed(title: str, body: Sequence[str], styles: Sequence[str], scripts: Sequence[str]) -> str:
    """A whole page: `body` as HTML, and files of `static/` as its style and its script, in order.

    The Content-Security-Policy names both by their SHA-256: whatever else would run, be styled, loaded, sent or
    embedded is refused, should text ever escape its place. With `require-trusted-types-for` not even our own script can
    turn text into elements. Equal arguments give equal bytes.
    """
    static = files("nlsim.report") / "static"
    css, script = (
        "\n" + "".join((static / name).read_text(encoding="utf-8") for name in names) for names in (styles, scripts)
    )
    return "".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy(css, script)}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{escape(title)}</title>\n<style>{css}</style>\n</head>\n<body>\n",
            *body,
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def policy(css: str, script: str) -> str:
    """What a page with exactly this style and script may do."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(css)}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
