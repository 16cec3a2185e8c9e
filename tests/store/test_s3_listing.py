"""Pages of a listing are read as botocore reads them, or left to botocore."""

from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from botocore.parsers import RestXMLParser
from botocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from nlsim.store.s3_listing import read_entries

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
SHAPE = get_session().get_service_model("s3").operation_model("ListObjectsV2").output_shape
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1)
ENTRY = st.tuples(TEXT, st.integers(0, 2**50), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))


def page(entries: list[tuple[str, int, datetime]]) -> bytes:
    root = ET.Element("ListBucketResult", xmlns=NAMESPACE)
    ET.SubElement(root, "Name").text = "bucket"
    ET.SubElement(root, "IsTruncated").text = "false"
    for key, size, time in entries:
        entry = ET.SubElement(root, "Contents")
        ET.SubElement(entry, "LastModified").text = time.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
        ET.SubElement(entry, "ETag").text = '"0123"'
        ET.SubElement(entry, "Key").text = key
        ET.SubElement(entry, "Size").text = str(size)
    ET.SubElement(root, "KeyCount").text = str(len(entries))
    return ET.tostring(root, encoding="utf-8")


def parsed(body: bytes, status: int = 200) -> dict[str, Any]:
    answer = {"status_code": status, "headers": {}, "body": body}
    found: dict[str, Any] = RestXMLParser().parse(answer, SHAPE)
    return found


def read(body: bytes, status: int = 200) -> tuple[dict[str, Any], bytes]:
    """What comes out with the handler, and what is left of the body."""
    answer: dict[str, Any] = {"status_code": status, "headers": {}, "body": body}
    own: dict[str, Any] = {}
    read_entries(answer, own)
    return {**parsed(answer["body"], status), **own}, answer["body"]


@given(st.lists(ENTRY, max_size=4))
def test_equal_to_botocore(entries: list[tuple[str, int, datetime]]) -> None:
    body = page(entries)
    expected = parsed(body)
    for entry in expected.get("Contents", []):
        del entry["ETag"]
    found, left = read(body)
    assert found == expected
    assert b"<Contents>" not in left


SOUND = page([("a&b", 3, datetime(2026, 1, 2)), ("c", 4, datetime(2026, 1, 3))])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<Size>3</Size>", b""),
        (b"<Size>3</Size>", b"<Size>3</Size><Size>4</Size>"),
        (b"<Size>3</Size>", b"<Size>-3</Size>"),
        (b"<Key>c</Key>", b"<Key></Key>"),
        (b"<Key>c</Key>", b"<Key>\xff</Key>"),
        (b"<Key>c</Key>", b"<Key><![CDATA[c]]></Key>"),
        (b"2026-01-03", b"some day"),
        (b"T00:00:00Z", b"T00:00:00"),
        (b"</Contents><Contents>", b"</Contents><Prefix>p</Prefix><Contents>"),
        (b"<Name>", b"<!-- <Contents> --><Name>"),
        (b"a&amp;b", b"a&#1;b"),
        (b"<KeyCount>", b'<Contents x="y"><Key>d</Key></Contents><KeyCount>'),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_botocore(old: bytes, new: bytes) -> None:
    assert old in SOUND
    body = SOUND.replace(old, new)
    answer: dict[str, Any] = {"status_code": 200, "headers": {}, "body": body}
    own: dict[str, Any] = {}
    read_entries(answer, own)
    assert (answer["body"], own) == (body, {})


def test_errors_are_left_to_botocore() -> None:
    answer: dict[str, Any] = {"status_code": 500, "headers": {}, "body": SOUND}
    read_entries(answer, {})
    assert answer["body"] == SOUND
