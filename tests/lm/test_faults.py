"""What servers answer that is no answer: late, dripping, garbage, from another model, with the key in it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_server import KEY, Reply, Server, chat_digits, digits, encoded, prompts

from nlsim.errors import DataError, NlsimError, TransientError, UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.openai import OpenAIEngine

Make = Callable[..., OpenAIEngine]


def ask(engine: OpenAIEngine, *lengths: int) -> list[int]:
    (found,) = engine.choose([prompts(engine, list(lengths))], digits())
    return [int(best) for best in found.logprobs_RC.argmax(1)]


def answered(model: str = "m", system: str | None = None) -> Callable[..., Reply]:
    def reply(path: str, body: dict[str, Any], number: int) -> Reply:
        status, headers, answer = chat_digits(path, body, number)
        return status, headers, {**answer, "model": model, "system_fingerprint": system}

    return reply


def test_a_model_that_changes_midway(make: Make, server: Server) -> None:
    """Answers of two models are never mixed in one shard."""
    first, second = answered("m-2025-01-01"), answered("m-2025-06-01")
    server.reply = lambda path, body, number: (first if number <= 3 else second)(path, body, number)
    engine = make(concurrency=1)
    assert ask(engine, 1, 2, 3) == [1, 2, 3]
    with pytest.raises(DataError, match="changed its model midway, from m-2025-01-01 to m-2025-06-01: name a fixed"):
        ask(engine, 4)


def test_kept_answers_of_another_model_are_not_mixed_in(make: Make, server: Server) -> None:
    """The next attempt finds the first model's answers, and asks the second for the rest."""
    server.reply = answered("m-2025-01-01")
    assert ask(make(concurrency=1), 1, 2) == [1, 2]
    server.reply = answered("m-2025-06-01")
    with pytest.raises(DataError, match=r"changed its model midway.*keep_answers=false"):
        ask(make(concurrency=1), 1, 2, 3)
    assert ask(make(concurrency=1, keep_answers=False), 1, 2, 3) == [1, 2, 3]


def test_a_key_as_secrets_are_mounted_and_one_that_is_none(
    make: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An HTTP library's complaint about a header would repeat it."""
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert ask(make(concurrency=1), 2) == [2]
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nmore")
    with pytest.raises(UsageError, match="characters that no key has") as caught:
        make(concurrency=1)
    assert KEY not in str(caught.value)


def test_another_system_fingerprint_is_said_and_kept(
    make: Make, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    replies = [answered("m", f"fp_{name}") for name in "aabab"]
    server.reply = lambda path, body, number: replies[number - 1](path, body, number)
    engine = make(concurrency=1)
    assert ask(engine, 1, 2, 3, 4, 5) == [1, 2, 3, 4, 5]
    assert caplog.messages.count("endpoint answers from another system") == 1
    assert engine.facts()["answered_by"] == "m, fp_a, fp_b"


def test_an_answer_that_drips_is_as_late_as_none(make: Make, server: Server) -> None:
    """Each byte comes in time, the whole never."""
    gone = threading.Event()

    def drip() -> Iterator[bytes]:
        while not gone.wait(0.02):
            yield b" "

    def reply(path: str, body: dict[str, Any], number: int) -> Reply:
        return (200, {"content-length": "1000000"}, drip()) if number == 1 else chat_digits(path, body, number)

    server.reply = reply
    engine = make(concurrency=1, timeout=1.0)
    assert ask(engine, 3) == [3]
    gone.set()
    assert engine.endpoint.usage.repeated >= 1


@pytest.mark.parametrize(
    "failure",
    [
        (200, {"content-length": "99", "connection": "close"}, b"{}"),  # cut off
        (200, {"content-encoding": "gzip"}, b"not gzip"),
        (200, {}, b"[" * 100_000),
        (200, {}, b"\xff\xfe\x00"),
        (200, {}, [1, 2]),
        (429, {"retry-after": "\u00b2"}, b""),
        (503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""),
    ],
)
def test_broken_answers_are_asked_for_again(make: Make, server: Server, failure: Reply) -> None:
    server.reply = lambda path, body, number: failure if number == 1 else chat_digits(path, body, number)
    engine = make(concurrency=1)
    assert ask(engine, 7) == [7]
    assert engine.endpoint.usage.repeated == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_server_that_repeats_the_key(
    make: Make, server: Server, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    server.reply = lambda *_: (status, {}, {"error": {"message": f"no: Bearer {KEY} \x1b]0;owned\x07"}})
    with pytest.raises((UsageError, TransientError)) as caught:
        ask(make(concurrency=1, retries=1), 1)
    assert KEY not in f"{caught.value} {caplog.text}"
    assert "\x1b" not in str(caught.value)


def test_a_key_in_the_address_is_refused() -> None:
    with pytest.raises(UsageError, match="part after") as caught:
        OpenAIEngine(LmConfig(model="m", endpoint={"base_url": "http://host/v1?key=canary"}))
    assert "canary" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "logprobs", "content", "top_logprobs", "token", "logprob", "message", "usage",
                 "prompt_tokens", "completion_tokens", "model", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)  # fmt: skip
SOUND = chat_digits("", {"messages": [{"content": "xxx"}]}, 1)[2]


@st.composite
def nearly(draw: st.DrawFn) -> Any:
    """A sound answer one part of which is anything."""
    answer = json.loads(json.dumps(SOUND))
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(answer)
    holder, key = draw(st.sampled_from(places))
    holder[key] = draw(JSON)
    return answer


@pytest.mark.hypothesis
def test_garbage_is_an_error_or_missing_mass(make: Make, server: Server) -> None:
    """Whatever JSON comes: log-probabilities, or one of nlsim's errors. Never a number that is none."""
    engine = make(concurrency=1, retries=0, keep_answers=False)

    @given(JSON | nearly())
    def attempt(answer: Any) -> None:
        server.reply = lambda *_: (200, {}, encoded(answer))
        engine.endpoint.answered_by["model"].clear()
        try:
            (found,) = engine.choose([prompts(engine, [3])], digits())
        except NlsimError:
            return
        assert not (found.logprobs_RC > 1e-3).any()
        assert (found.logprobs_RC == found.logprobs_RC).all()

    attempt()
