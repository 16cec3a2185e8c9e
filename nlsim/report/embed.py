"""Putting data into a page: JSON that cannot close its script element, and compressed chunks of it."""

from __future__ import annotations

import base64
import gzip
import json
import math
from typing import Any

UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""Characters that could end a script element, open a comment in one, or end a line of script."""


def script_json(value: Any) -> str:
    """JSON for a `<script type="application/json">`. NaN and infinities become null. Text cannot break out of it."""
    text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.translate(UNSAFE)


def chunk(value: Any) -> str:
    """JSON, gzipped (the same bytes every time) and in base64: for parts of the data that are opened on demand."""
    data = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
