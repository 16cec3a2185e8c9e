"""Talking to an OpenAI-compatible server: as many requests at once as it bears, each tried until it is hopeless."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from nlsim import log
from nlsim.errors import DataError, TransientError, UsageError
from nlsim.lm.config import LmConfig
from nlsim.log import one_line

T = TypeVar("T")

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 60.0
"""Seconds before the first repetition; doubled each time up to the longest, and varied at random by a half."""


class RefusedError(UsageError):
    """The server understood the request and will not answer it."""


class Throttle:
    """At most `limit` requests under way. It halves when the server says 429 and grows by one per `limit` answers.

    Additive increase, multiplicative decrease (Chiu and Jain 1989).
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.busy = 0
        self._free = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._free:
            await self._free.wait_for(lambda: self.busy < max(1, int(self.limit)))
            self.busy += 1

    async def __aexit__(self, *_: object) -> None:
        async with self._free:
            self.busy -= 1
            self._free.notify_all()

    def succeeded(self) -> None:
        """An answer came."""
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self) -> None:
        """The server says that there are too many requests."""
        self.limit = max(1.0, self.limit / 2)


@dataclass
class Usage:
    """What was used so far."""

    requests: int = 0
    repeated: int = 0
    kept: int = 0
    """Answers that an earlier run had got already."""
    tokens_in: int = 0
    tokens_out: int = 0

    def cost(self, config: LmConfig) -> float:
        """At the configured prices."""
        return (self.tokens_in * config.prices.input + self.tokens_out * config.prices.output) / 1e6


class Endpoint:
    """A server. Requests run on an event loop in a thread of their own; errors are nlsim's."""

    def __init__(self, config: LmConfig) -> None:
        """Raises UsageError for an address that cannot be one."""
        settings = config.endpoint
        self.config = config
        self.usage = Usage()
        try:
            url = httpx.URL(settings.base_url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise UsageError(
                f"lm.endpoint.base_url is no address ({error})", "use something like http://host:8000/v1"
            ) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise UsageError(
                f"lm.endpoint.base_url {settings.base_url!r} is no address", "use something like http://host:8000/v1"
            )
        if url.userinfo:
            raise UsageError("lm.endpoint.base_url holds credentials", f"put the key into ${settings.key_variable}")
        if url.query or url.fragment:  # where some services take a key
            raise UsageError("lm.endpoint.base_url has a part after ?", f"put a key into ${settings.key_variable}")
        self.url = str(url)
        self.answered_by: dict[str, list[str]] = {"model": [], "system_fingerprint": []}
        """What the server says that it answered with, each once, in order."""
        self._key = _key(settings.key_variable)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nlsim-endpoint", daemon=True)
        self._thread.start()
        self._client, self.throttle = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    async def _open(self) -> tuple[httpx.AsyncClient, Throttle]:
        most = self.config.endpoint.concurrency
        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(self.config.endpoint.timeout, connect=min(10.0, self.config.endpoint.timeout)),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
        )
        return client, Throttle(most)

    def stream(self, works: Iterable[Coroutine[Any, Any, T]]) -> Iterator[T]:
        """Results of coroutines in their order. Several times the concurrency are under way; memory does not grow.

        The first that fails ends the others, so that nothing is spent on answers that nobody will read.
        """
        waiting: deque[Any] = deque()
        try:
            for work in works:
                waiting.append(asyncio.run_coroutine_threadsafe(work, self._loop))
                if len(waiting) >= 4 * self.config.endpoint.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    async def post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises UsageError for what cannot succeed, TransientError when attempts run out."""
        problem = ""
        for attempt in range(self.config.endpoint.retries + 1):
            async with self.throttle:
                try:
                    async with asyncio.timeout(self.config.endpoint.timeout):  # httpx limits each read, not the whole
                        response = await self._client.post(f"{self.url}/{route}", json=body)
                except (httpx.TransportError, httpx.DecodingError, TimeoutError) as error:
                    response, problem = None, self._hidden(f"{type(error).__name__}: {error}".rstrip(": "))
                if response is not None and response.status_code == 200:
                    answer = self._read(response)
                    if answer is not None:
                        return answer
                    problem = "an answer that is not JSON"
                elif response is not None:
                    problem = self._refused(response, route)
            self.usage.repeated += 1
            if attempt < self.config.endpoint.retries:
                await asyncio.sleep(self._delay(attempt, response))
        raise TransientError(
            f"{self.url} failed {self.config.endpoint.retries + 1} times ({problem})",
            "check the server, then run the same command again: what is committed is kept",
        )

    def _read(self, response: httpx.Response) -> dict[str, Any] | None:
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            return None
        if not isinstance(answer, dict):
            return None
        self.check_model(answer)
        self.usage.requests += 1
        self.usage.tokens_in += used(answer, "prompt_tokens")
        self.usage.tokens_out += used(answer, "completion_tokens")
        self.throttle.succeeded()
        return answer

    def check_model(self, answer: Mapping[str, Any]) -> None:
        """Raise DataError when another model answers than before: numbers of two models are not to be mixed.

        Another fingerprint of the system is logged, no more: services answer from several systems at once.
        """
        for name, known in self.answered_by.items():
            said = one_line(str(answer.get(name) or ""))[:100]
            if not said or said in known:
                continue
            if known and name == "model":
                raise DataError(
                    f"{self.url} changed its model midway, from {known[0]} to {said}",
                    "name a fixed version in lm.model, or ask all anew with lm.endpoint.keep_answers=false",
                )
            if known:
                log.event("endpoint answers from another system", logging.WARNING, before=known[-1], now=said)
            known.append(said)

    def _refused(self, response: httpx.Response, route: str) -> str:
        """What a passing failure says; any other is raised."""
        status = response.status_code
        said = self._hidden(message_of(response))[:300]
        if status in (401, 403):
            name = self.config.endpoint.key_variable
            raise UsageError(f"{self.url} rejected the key ({status})", f"set ${name} to a valid one")
        if status == 404:
            raise UsageError(
                f"{self.url} has no {route} for model {self.config.model!r} ({said})", "check lm.model and lm.endpoint"
            )
        if status not in PASSING:
            raise RefusedError(
                f"{self.url} refused a request ({status}: {said})", "check lm.endpoint and the length of prompts"
            )
        if status == 429:
            self.throttle.refused()
            log.event("endpoint is busy", concurrency=int(self.throttle.limit))
        return f"{status}: {said}"

    def _hidden(self, text: str) -> str:
        """A text without the key: some servers, and some errors, repeat it."""
        return text.replace(self._key, "***") if self._key else text

    def _delay(self, attempt: int, response: httpx.Response | None) -> float:
        """Seconds to wait: what the server asks for, else growing; never in step with other requests."""
        asked = response.headers.get("retry-after", "") if response is not None else ""
        delay = float(asked) if asked.replace(".", "", 1).isdecimal() else FIRST_DELAY * 2**attempt
        return min(delay, LONGEST_DELAY) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads requests, nothing more

    def close(self) -> None:
        """End connections and the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    async def _end(self) -> None:
        """Cancel what is under way, then hang up."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()


def _key(variable: str) -> str:
    """The key, without the space round it that mounted secrets have. Raises UsageError for one that is none."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"${variable} holds characters that no key has", "set it to the key alone")
    return key


def message_of(response: httpx.Response) -> str:
    """The error a server states, in one line."""
    try:
        error = response.json()
        error = error.get("error", error)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        text = response.text
    return one_line(text)


def used(answer: Mapping[str, Any], name: str) -> int:
    """A count of tokens that an answer states, 0 where it states none."""
    usage = answer.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0
