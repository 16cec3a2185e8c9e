"""Talking to an OpenAI-compatible server: as many requests at once as it bears, each tried until it is hopeless."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from nlsim import log
from nlsim.errors import TransientError, UsageError
from nlsim.lm.config import LmConfig

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
        self.url = str(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nlsim-endpoint", daemon=True)
        self._thread.start()
        self._client, self.throttle = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    async def _open(self) -> tuple[httpx.AsyncClient, Throttle]:
        key = os.environ.get(self.config.endpoint.key_variable)
        most = self.config.endpoint.concurrency
        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
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
                    response = await self._client.post(f"{self.url}/{route}", json=body)
                except httpx.TransportError as error:
                    response, problem = None, f"{type(error).__name__}: {error}".rstrip(": ")
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
        except ValueError:
            return None
        if not isinstance(answer, dict):
            return None
        used = answer.get("usage") or {}
        self.usage.requests += 1
        self.usage.tokens_in += int(used.get("prompt_tokens") or 0)
        self.usage.tokens_out += int(used.get("completion_tokens") or 0)
        self.throttle.succeeded()
        return answer

    def _refused(self, response: httpx.Response, route: str) -> str:
        """What a passing failure says; any other is raised."""
        status = response.status_code
        said = message_of(response)
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

    def _delay(self, attempt: int, response: httpx.Response | None) -> float:
        """Seconds to wait: what the server asks for, else growing; never in step with other requests."""
        asked = response.headers.get("retry-after", "") if response is not None else ""
        delay = float(asked) if asked.replace(".", "", 1).isdigit() else FIRST_DELAY * 2**attempt
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


def message_of(response: httpx.Response) -> str:
    """The error a server states, in one short line."""
    try:
        error = response.json()
        error = error.get("error", error)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        text = response.text
    return " ".join(text.split())[:300]
