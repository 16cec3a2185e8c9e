"""Embedded data: cannot leave its element, survives the round trip, same bytes every time."""

import base64
import gzip
import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nlsim.report.embed import chunk, script_json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_script_json_reads_back_and_has_no_markup(value: Any) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


@given(json_values)
def test_chunks_read_back_and_are_reproducible(value: Any) -> None:
    assert json.loads(gzip.decompress(base64.b64decode(chunk(value)))) == value
    assert chunk(value) == chunk(value)


def test_what_json_cannot_say_becomes_null() -> None:
    assert json.loads(script_json({"a": [math.nan, math.inf, 1.5]})) == {"a": [None, None, 1.5]}
