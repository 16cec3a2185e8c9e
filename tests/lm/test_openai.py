"""Engine `openai` against a local server that fails in every way servers do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_server import KEY, Reply, Server, chat_digits, digits, prompts, top

from nlsim.errors import TransientError, UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Sampling
from nlsim.lm.openai import Characters, OpenAIEngine, chat_logprobs, exclusive, logarithm
from nlsim.lm.prompts import PromptTree, leaf
from nlsim.lm.templates import Message, Template


def test_choices_with_missing_mass(make: Callable[..., OpenAIEngine]) -> None:
    """What the server does not tell is missing, not shared out (mistake 12); spellings of an answer count together."""
    engine = make()
    (found,) = engine.choose([prompts(engine, [3, 14])], digits())
    assert np.exp(found.logprobs_RC).argmax(1).tolist() == [3, 4]
    assert np.allclose(found.mass_R, 0.75 + 0.0625 + 0.125)
    assert np.isneginf(found.logprobs_RC).sum(1).tolist() == [8, 8]
    assert engine.facts()["tokens_in"] == "22"
    assert float(engine.facts()["cost"]) == pytest.approx((22 * 2 + 2 * 10) / 1e6)


def test_results_keep_their_order_and_trees_stay_whole(make: Callable[..., OpenAIEngine], server: Server) -> None:
    gate = threading.Barrier(2, timeout=30)

    def slow_first(path: str, body: dict[str, Any], number: int) -> Reply:
        if number <= 2:
            gate.wait()  # two at once, so answers cannot simply come in order
        return chat_digits(path, body, number)

    server.reply = slow_first
    engine = make()
    lengths = [[1, 2, 3], [], [4], [5, 6]]
    empty = PromptTree(np.empty(0), np.empty(0))
    trees = [prompts(engine, some) if some else empty for some in lengths]
    found = list(engine.choose(trees, digits()))
    assert [choices.logprobs_RC.argmax(1).tolist() if len(choices.logprobs_RC) else [] for choices in found] == lengths


def test_temperature_and_length_are_fixed(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """Mistake 13: distributions are read at temperature 1, from one token."""
    engine = make()
    list(engine.choose([prompts(engine, [3])], digits()))
    (path, body, headers), *_ = server.asked
    assert path.endswith("/chat/completions")
    assert (body["temperature"], body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1.0, 1, True, 20)
    assert body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "xxx"}]
    assert headers["Authorization"] == f"Bearer {KEY}"


def test_too_many_requests(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """After 429 fewer requests run at once; all are answered in the end."""

    def strict(path: str, body: dict[str, Any], number: int) -> Reply:
        if number <= 8:
            return 429, {"retry-after": "0.002"}, {"error": {"message": "slow down"}}
        return chat_digits(path, body, number)

    server.reply = strict
    engine = make(retries=50)
    lengths = [int(n) for n in np.random.default_rng(0).integers(0, 50, size=20)]
    before = engine.endpoint.throttle.limit
    answers = engine.choose([prompts(engine, [n]) for n in lengths], digits())
    first = next(answers).logprobs_RC.argmax()
    assert engine.endpoint.throttle.limit < before
    rest = [found.logprobs_RC.argmax() for found in answers]
    assert [first, *rest] == [n % 10 for n in lengths]
    assert engine.endpoint.usage.requests == 20
    assert engine.endpoint.usage.repeated == 8


@pytest.mark.parametrize(
    "failure", [(0, {}, ""), (503, {}, {"error": "starting"}), (200, {}, b"<html>"), (500, {}, b"")]
)
def test_passing_failures_are_repeated(make: Callable[..., OpenAIEngine], server: Server, failure: Reply) -> None:
    server.reply = lambda path, body, number: failure if number % 3 else chat_digits(path, body, number)
    engine = make(concurrency=1)
    (found,) = engine.choose([prompts(engine, [1, 2, 3, 4])], digits())
    assert found.logprobs_RC.argmax(1).tolist() == [1, 2, 3, 4]
    assert engine.endpoint.usage.repeated == 8


def test_a_request_that_takes_too_long_is_repeated(make: Callable[..., OpenAIEngine], server: Server) -> None:
    gone = threading.Event()

    def slow(path: str, body: dict[str, Any], number: int) -> Reply:
        if number == 1:
            gone.wait(30)
        return chat_digits(path, body, number)

    server.reply = slow
    engine = make(concurrency=1, timeout=1.0)
    (found,) = engine.choose([prompts(engine, [3])], digits())
    gone.set()
    assert found.logprobs_RC.argmax() == 3
    assert engine.endpoint.usage.repeated >= 1


def test_a_server_that_dies_midway(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """What was answered has been handed out; the rest fails as something that may succeed later."""
    server.reply = lambda path, body, number: chat_digits(path, body, number) if number <= 3 else (0, {}, "")
    engine = make(concurrency=1, retries=2)
    answers = engine.choose([prompts(engine, [n]) for n in range(1, 9)], digits())
    assert [next(answers).logprobs_RC.argmax() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(TransientError, match="failed 3 times"):
        next(answers)


def test_a_second_attempt_pays_for_no_answer_twice(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """After the server died midway only what is missing is asked for; the answers are the same as without a break."""
    server.reply = lambda path, body, number: chat_digits(path, body, number) if number <= 3 else (0, {}, "")
    trees = lambda engine: [prompts(engine, [n]) for n in range(1, 9)]  # noqa: E731
    first = make(concurrency=1, retries=1)
    with pytest.raises(TransientError):
        list(first.choose(trees(first), digits()))
    first.close()
    server.reply = chat_digits
    again = make(concurrency=1)
    found = [choices.logprobs_RC for choices in again.choose(trees(again), digits())]
    assert (again.facts()["kept"], again.facts()["requests"]) == ("3", "5")
    anew = make(keep_answers=False)
    exact = [choices.logprobs_RC for choices in anew.choose(trees(anew), digits())]
    assert np.array_equal(found, exact)  # missing mass included
    assert anew.facts()["requests"] == "8"


def test_answers_are_kept_apart(make: Callable[..., OpenAIEngine]) -> None:
    """Other choices or another model are other questions."""
    engine = make()
    tree = prompts(engine, [3])
    (all_ten,) = engine.choose([tree], digits())
    (two,) = engine.choose([tree], digits()[3:5])
    assert np.array_equal(two.logprobs_RC, all_ten.logprobs_RC[:, 3:5])
    assert engine.facts()["kept"] == "0"


def test_a_cache_that_cannot_be_written_is_done_without(
    make: Callable[..., OpenAIEngine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path / "file"))
    engine = make()
    (found,) = engine.choose([prompts(engine, [3])], digits())
    assert found.logprobs_RC.argmax() == 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), "rejected the key"),
        ((404, {}, {"error": {"message": "The model `m` does not exist"}}), "model 'm'"),
        ((400, {}, {"error": {"message": "maximum context length is 10 tokens"}}), "maximum context length"),
        ((200, {}, {"choices": [{"message": {"content": "7"}}]}), "no log-probabilities"),
        ((200, {}, {"hello": 1}), "no choices"),
    ],
)
def test_hopeless_failures(
    make: Callable[..., OpenAIEngine], server: Server, caplog: pytest.LogCaptureFixture, reply: Reply, says: str
) -> None:
    """One clear line, no repetition, and never the key."""
    caplog.set_level(logging.DEBUG)
    server.reply = lambda *_: reply
    engine = make(concurrency=1)
    with pytest.raises(UsageError, match=says) as caught:
        list(engine.choose([prompts(engine, [1])], digits()))
    assert len(server.asked) == 1
    assert KEY not in f"{caught.value} {caplog.text} {engine.facts()} {engine.config}"


def test_a_failure_ends_the_others(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """No more than what was under way is asked once the key is rejected."""
    server.reply = lambda *_: (401, {}, {})
    engine = make(concurrency=2)
    with pytest.raises(UsageError):
        list(engine.choose([prompts(engine, [1] * 500)], digits()))
    assert len(server.asked) <= 16


def test_many_requests_do_not_pile_up(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """Mistake 40: requests are made as they are needed; there is no barrier and no growing list."""
    engine = make(concurrency=2)
    drawn = 0

    def trees() -> Iterator[PromptTree]:
        nonlocal drawn
        for n in range(60):
            drawn += 1
            yield prompts(engine, [n])

    answers = engine.choose(trees(), digits())
    next(answers)
    assert drawn <= 10
    assert len(list(answers)) == 59
    assert server.most_busy <= 2


def test_opening_of_a_chat_answer() -> None:
    """Read after the forced opening, or at once where the model leaves it out; else the mass is missing."""

    def answer(*tokens: str) -> dict[str, Any]:
        steps = [{"token": token, "top_logprobs": [top(token, -0.5)]} for token in tokens]
        return {"choices": [{"logprobs": {"content": steps}}]}

    assert chat_logprobs(answer("[", "7", "]"), "[") == {"7": -0.5}
    assert chat_logprobs(answer("7"), "[") == {"7": -0.5}
    assert chat_logprobs(answer("The", " answer"), "") == {"The": -0.5}
    assert chat_logprobs(answer("["), "[") == {}
    assert chat_logprobs(answer("[", "[", "7"), "[[") == {"7": -0.5}


@pytest.mark.parametrize("value", [True, False, None, "high", 0.5, float("nan")])
def test_what_is_no_log_probability(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        logarithm(value)


def test_answers_exclude_each_other(make: Callable[..., OpenAIEngine], server: Server) -> None:
    """Two spellings of one digit that hold more than all probability: the answer is refused, not made to fit."""
    tops = [top("3", -0.2), top(" 3", -0.1)]
    choice = {"logprobs": {"content": [{"token": "3", "top_logprobs": tops}]}}
    server.reply = lambda *_: (200, {}, {"choices": [choice]})
    with pytest.raises(UsageError, match=r"probabilities of 10 answers sum to 1\.72"):
        list(make().choose([prompts(make(), [3])], digits()))
    assert exclusive([0.0005, -20.0]) == [0.0, -20.0]
    assert exclusive([np.log(0.9), np.log(0.108)]) == [np.log(0.9), np.log(0.108)]
    with pytest.raises(UsageError):
        exclusive([np.log(0.9), np.log(0.12)])


def test_reading_inside_a_prompt_needs_token_ids(make: Callable[..., OpenAIEngine]) -> None:
    engine = make()
    ids = Template(engine.tokenizer).encode(Template(engine.tokenizer).text([Message("user", "abc")]))
    with pytest.raises(UsageError, match="only at the end"):
        list(engine.choose([leaf(ids, [1, len(ids) - 1])], digits()))


def test_generate(make: Callable[..., OpenAIEngine], server: Server) -> None:
    def write(path: str, body: dict[str, Any], number: int) -> Reply:
        text = body["messages"][-1]["content"].upper()
        assert (body["max_tokens"], body["temperature"], body["seed"], body["stop"]) == (9, 0.5, 3, ["\n"])
        choice = {"message": {"content": text}, "finish_reason": "length" if text == "B" else "stop"}
        return 200, {}, {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

    server.reply = write
    engine = make()
    template = Template(engine.tokenizer)
    asked = [template.encode(template.text([Message("user", text)])) for text in ("a", "b")]
    found = engine.generate(asked, Sampling(9, 0.5, 3, ("\n",)))
    assert [(one.text, one.tokens, one.finished) for one in found] == [("A", 2, True), ("B", 2, False)]


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://user:secret@host/v1", "http://"])
def test_bad_addresses(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        OpenAIEngine(LmConfig(model="m", endpoint={"base_url": url}))
    assert "secret" not in str(caught.value)


def test_characters_round_trip() -> None:
    tokenizer = Characters()
    template = Template(tokenizer)
    turns = [Message("system", "Be brief."), Message("user", "Hé 你好 \U000f0002!"), Message("assistant", "[3]")]
    messages, opening = tokenizer.messages(template.encode(template.text([*turns, Message("user", "?")], "[")))
    assert opening == "["
    assert messages[1] == {"role": "user", "content": "Hé 你好 !"}
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert template.force("[", list("0123456789")).tokens == tuple(digits())
