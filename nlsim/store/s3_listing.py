"""Listings, read faster than botocore does: that takes most of the time of `nlsim status` of a run with many shards."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from xml.sax.saxutils import unescape


def read_entries(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """A handler of botocore's event before-parse: takes the entries out of a page and gives them as read.

    Only key, size and time of an entry are read. A page with an entry that has not each of them once, and one with
    comments, CDATA, numbered characters or anything else out of the ordinary, is left as it is, for botocore to read
    or refuse. (In XML no key holds a raw `<`.)
    """
    body: bytes = response_dict["body"]
    if response_dict["status_code"] != 200 or b"<!" in body or b"&#" in body:
        return
    before, *parts = body.split(b"<Contents>")
    entries = []
    after = b""
    try:
        for part in parts:
            entry, _end, between = part.partition(b"</Contents>")
            key, size, time = (_only(entry, *tags) for tags in _READ)
            modified = datetime.fromisoformat(time)
            if after.strip() or not (key and size.isdigit() and modified.tzinfo):
                return
            after = between
            entries.append({"Key": unescape(key, _QUOTES), "Size": int(size), "LastModified": modified})
    except ValueError:  # no text, no time
        return
    if entries and not any(sign in before + after for sign in (b"<Contents", b"</Contents")):
        customized_response_dict["Contents"] = entries
        response_dict["body"] = before + after


def _only(entry: bytes, begin: bytes, end: bytes) -> str:
    """What stands between two tags; nothing where they do not come exactly once."""
    value, found, rest = entry.partition(begin)[2].partition(end)
    return value.decode() if found and begin not in rest else ""


_QUOTES = {"&quot;": '"', "&apos;": "'"}
_READ = tuple((f"<{name}>".encode(), f"</{name}>".encode()) for name in ("Key", "Size", "LastModified"))
