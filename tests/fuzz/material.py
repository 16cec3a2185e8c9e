"""What parsers are fed: bytes near sound ones, JSON of any shape, and places in sound values that hold anything."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlsim.errors import NlsimError

EXAMPLES = int(os.environ.get("NLSIM_FUZZ_EXAMPLES", "12"))
"""Of each test. The tests of a commit take few; a soak takes thousands."""
LONG = EXAMPLES > 100

WORDS = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1e999",
        "NaN",
        "99999999999999999999",
        "\ud800",
        "\x00",
        "\x1b[31m",
        "../../etc/passwd",
        "²",
        "None",
    ]
)
TEXTS = WORDS | st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


def fuzz(*strategies: Any, share: float = 1.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of many examples; nothing but nlsim's errors may come out of it. `share`: of the usual number."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
        count = max(4, int(EXAMPLES * share))
        fuzzed = settings(max_examples=count, deadline=None, suppress_health_check=checks)(given(*strategies)(test))
        fuzzed.drawn_from = strategies  # type: ignore[attr-defined] # for `guided`
        return fuzzed

    return decorate


def survives(parse: Callable[[], Any]) -> Any:
    """What `parse` gives, None for one of nlsim's errors. Each is one line that says something."""
    try:
        return parse()
    except NlsimError as error:
        refusal = error
    assert str(refusal).strip()
    assert refusal.exit_code in (2, 3), repr(refusal)
    return None


@st.composite
def altered(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some of them replaced, left out, put in or doubled; or cut short; or anything at all."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        length = draw(st.sampled_from([0, 1, 2, 8, 100]))
        match draw(st.sampled_from(["replace", "double", "cut", "bit"])):
            case "replace":
                changed[at : at + length] = draw(st.binary(max_size=12))
            case "double":
                changed[at:at] = changed[at : at + length]
            case "cut":
                del changed[at:]
            case "bit" if at < len(changed):
                changed[at] ^= 1 << draw(st.integers(0, 7))
    return draw(st.just(bytes(changed)) | st.binary(max_size=40))


@st.composite
def elsewise(draw: st.DrawFn, value: Any, anything: st.SearchStrategy[Any] = VALUES) -> Any:
    """A sound value of mappings and lists in which one place or two hold anything, or are gone."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(changed))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if isinstance(holder, dict) and draw(st.integers(0, 3)) == 0:
            del holder[key]
        else:
            holder[key] = draw(anything)
    return changed


def _places(value: Any) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
