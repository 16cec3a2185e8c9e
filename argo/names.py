"""Names and labels that Kubernetes accepts."""

from __future__ import annotations

import re


def dns_name(text: str, length: int = 40) -> str:
    """`text` as (the beginning of) an object's name: at most `length` lower-case letters, digits and `-`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "run"


def label_value(text: str) -> str:
    """`text` as a label's value: at most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at each end."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-_.")
