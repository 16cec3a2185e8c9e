"""Engine `openai`: any OpenAI-compatible server, by token ids (`completions`) or by messages (`chat`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from nlsim import log
from nlsim.errors import UsageError
from nlsim.foreign import well_formed
from nlsim.lm.config import LmConfig
from nlsim.lm.endpoint import Endpoint, RefusedError, used
from nlsim.lm.engine import Choices, Generation, Sampling
from nlsim.lm.kept import KeptAnswers
from nlsim.lm.prompts import IntArray, PromptTree, flatten

T = TypeVar("T")

ROLES = {"\U000f0001": "system", "\U000f0002": "user", "\U000f0003": "assistant"}
"""Private-use characters that stand for the beginning of a turn."""

CHAT_TOKENS = 4
"""Tokens written to get past the opening of an answer, which chat servers cannot be made to begin with."""


class Characters:
    """A tokenizer whose tokens are characters, for servers whose own is not known: text goes in, text comes out."""

    chat_template = "messages"
    added_tokens_decoder: Mapping[int, Any] = MappingProxyType({})

    def get_chat_template(self) -> str:
        """Not jinja's: `apply_chat_template` knows what to do."""
        return self.chat_template

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:  # noqa: ARG002 - as tokenizers have it
        """Code points."""
        return [ord(character) for character in text]

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:  # noqa: ARG002
        """The text of code points."""
        return "".join(chr(token) for token in token_ids)

    def apply_chat_template(self, conversation: list[dict[str, str]], **_: Any) -> str:
        """Turns, each after the mark of its role; the assistant's is open at the end."""
        marks = {role: mark for mark, role in ROLES.items()}
        gone = dict.fromkeys(map(ord, ROLES))
        turns = "".join(marks[turn["role"]] + turn["content"].translate(gone) for turn in conversation)
        return turns + marks["assistant"]

    def messages(self, token_ids: Sequence[int]) -> tuple[list[dict[str, str]], str]:
        """The turns of a prompt, and the opening of the assistant's answer."""
        turns: list[dict[str, str]] = []
        for character in self.decode(token_ids):
            if character in ROLES:
                turns.append({"role": ROLES[character], "content": ""})
            elif turns:
                turns[-1]["content"] += character
        return turns[:-1], turns[-1]["content"]


class OpenAIEngine:
    """A server as a language model."""

    name = "openai"

    def __init__(self, config: LmConfig) -> None:
        """Raises UsageError for a configuration without address, or `completions` without tokenizer."""
        if not config.endpoint.base_url:
            raise UsageError("engine openai has no server", "set lm.endpoint.base_url")
        route = config.endpoint.route
        if route == "completions" and not config.tokenizer:
            raise UsageError("route completions sends token ids", "set lm.tokenizer to the model's tokenizer")
        self.config = config
        self.chat = route == "chat" or not config.tokenizer
        self.tokenizer: Any = Characters() if self.chat else _tokenizer(config)
        self.endpoint = Endpoint(config)
        self.kept = KeptAnswers(self.endpoint.url, config.model, config.endpoint.keep_answers)
        self.exact = True

    def choose(self, trees: Iterable[PromptTree], choices: Sequence[int]) -> Iterator[Choices]:
        """One request per read. Choices outside the server's top log-probabilities are −inf: missing mass."""
        sizes: list[int] = []

        def works() -> Iterator[Any]:
            for tree in trees:
                prompts = [(tokens, read) for tokens, reads in flatten(tree) for read in reads.tolist()]
                sizes.append(len(prompts))
                for tokens, read in prompts:
                    yield self._choose(tokens[: read + 1], read + 1 == len(tokens), tuple(choices))

        answered: list[npt.NDArray[np.float32]] = []
        for row in chain(self.endpoint.stream(works()), [None]):
            if row is not None:
                answered.append(row)
            while sizes and len(answered) >= sizes[0]:
                size = sizes.pop(0)
                rows, answered = answered[:size], answered[size:]
                yield Choices(np.stack(rows) if rows else np.empty((0, len(choices)), dtype=np.float32))
        self._report()

    async def _choose(self, tokens: IntArray, at_end: bool, choices: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if not self.chat:
            return np.asarray(await self._complete(tokens, choices), dtype=np.float32)
        if not at_end:
            raise UsageError(
                "a chat server answers only at the end of a prompt", "set simulate.positions to last, or lm.tokenizer"
            )
        messages, opening = self.tokenizer.messages(tokens)
        body = {
            "model": self.config.model,
            "messages": messages,
            "max_tokens": CHAT_TOKENS if opening else 1,
            "temperature": 1.0,  # some servers apply the temperature to the log-probabilities they report
            "logprobs": True,
            "top_logprobs": self.config.endpoint.top_logprobs,
        }

        def read(answer: Mapping[str, Any]) -> list[float]:
            table = chat_logprobs(answer, opening)
            return exclusive([table.get(chr(choice), -math.inf) for choice in choices])

        found = await self._ask("chat/completions", body, read, opening, choices)
        return np.asarray(found, dtype=np.float32)

    async def _complete(self, tokens: IntArray, choices: tuple[int, ...]) -> list[float]:
        """Ask for exactly the choices, as vLLM allows; a server that knows no such thing gives its top ones."""

        def read(answer: Mapping[str, Any]) -> list[float]:
            table = completion_logprobs(answer)
            names = [(f"token_id:{token}", self.tokenizer.decode([token])) for token in choices]
            return exclusive([max(logarithm(table.get(name, -math.inf)) for name in both) for both in names])

        body = self._body(tokens, 1, 1.0, logprobs=self.config.endpoint.top_logprobs)
        if self.exact:
            exactly = {"logprobs": len(choices), "logprob_token_ids": list(choices), "return_tokens_as_token_ids": True}
            try:
                return await self._ask("completions", {**body, **exactly}, read, choices)
            except RefusedError:
                found = await self._ask("completions", body, read, choices)
                self.exact = False  # what was added is what it refuses
                return found
        return await self._ask("completions", body, read, choices)

    async def _ask(self, route: str, body: dict[str, Any], read: Callable[[Mapping[str, Any]], T], *more: Any) -> T:
        """What `read` makes of the server's answer, or what it made of it before; `more` is what it depends on."""
        key = self.kept.key(route, body, *more)
        known = self.kept.get(key)
        if known is not None:
            self.endpoint.check_model(known)
            self.endpoint.usage.kept += 1
            found: T = known["found"]
            return found
        answer = await self.endpoint.post(route, body)
        try:
            found = read(answer)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"the endpoint's answer is none of OpenAI's form ({type(error).__name__})",
                "check lm.endpoint.base_url: is it OpenAI-compatible?",
            ) from error
        self.kept.put(key, {"model": answer.get("model"), "found": found})
        return found

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        """One request per prompt. Seeds are passed on; servers need not honour them."""
        works = (self._write(prompt, sampling) for prompt in prompts)
        written = list(self.endpoint.stream(works))
        self._report()
        return written

    async def _write(self, tokens: IntArray, sampling: Sampling) -> Generation:
        extra: dict[str, Any] = {"seed": sampling.seed, **({"stop": list(sampling.stop)} if sampling.stop else {})}
        opening = ""
        if self.chat:
            messages, opening = self.tokenizer.messages(tokens)
            body = {
                "model": self.config.model,
                "messages": messages,
                "max_tokens": sampling.max_tokens,
                "temperature": sampling.temperature,
                **extra,
            }
        else:
            body = self._body(tokens, sampling.max_tokens, sampling.temperature, **extra)

        def read(answer: Mapping[str, Any]) -> list[Any]:
            choice = first_choice(answer)
            text = (choice.get("message") or {}).get("content") if self.chat else choice.get("text")
            tokens = used(answer, "completion_tokens")
            return [well_formed(str(text or "")).removeprefix(opening), tokens, choice.get("finish_reason") != "length"]

        return Generation(*await self._ask("chat/completions" if self.chat else "completions", body, read, opening))

    def _body(self, tokens: IntArray, max_tokens: int, temperature: float, **extra: Any) -> dict[str, Any]:
        common = {
            "model": self.config.model,
            "prompt": tokens.tolist(),
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        return {**common, **extra}

    def facts(self) -> dict[str, str]:
        """Engine, model, address, and what was used so far."""
        usage = self.endpoint.usage
        return {
            "engine": self.name,
            "model": self.config.model,
            "endpoint": self.endpoint.url,
            "route": "chat" if self.chat else "completions",
            "requests": str(usage.requests),
            "kept": str(usage.kept),
            "tokens_in": str(usage.tokens_in),
            "tokens_out": str(usage.tokens_out),
            "cost": f"{usage.cost(self.config):.6f}",
            "answered_by": ", ".join(said for known in self.endpoint.answered_by.values() for said in known),
        }

    def close(self) -> None:
        """End the connections."""
        self.endpoint.close()
        self.kept.close()

    def _report(self) -> None:
        usage = self.endpoint.usage
        log.event(
            "endpoint",
            requests=usage.requests,
            repeated=usage.repeated,
            kept=usage.kept,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            cost=round(usage.cost(self.config), 6),
        )


def _tokenizer(config: LmConfig) -> Any:
    from nlsim.lm.loading import load_tokenizer

    return load_tokenizer(config)


def first_choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice of an answer. Raises UsageError when there is none."""
    choices = answer.get("choices") or []
    if not choices:
        raise UsageError("the endpoint's answer has no choices", "check lm.endpoint.base_url: is it OpenAI-compatible?")
    choice: Mapping[str, Any] = choices[0]
    return choice


def logarithm(value: Any) -> float:
    """A log-probability as a server gives it. Raises ValueError for what is none."""
    found = math.nan if isinstance(value, bool) else float(value)
    if not found < 1e-3:  # rounding may lift it above 0 by a hair; NaN is none either
        raise ValueError(f"{value} is no log-probability")
    return min(found, 0.0) if found > -1e9 else -math.inf


def exclusive(logprobs: list[float]) -> list[float]:
    """Log-probabilities of answers of which one at most is given. Raises UsageError where they sum to more than 1."""
    total = sum(map(math.exp, logprobs))
    if total > 1.01:  # a server that computes in bfloat16 is off by less
        raise UsageError(
            f"the endpoint's probabilities of {len(logprobs)} answers sum to {total:.3f}",
            "use a server that reports the model's own log-probabilities, without penalties or biases",
        )
    return [min(logprob, 0.0) for logprob in logprobs]


def _no_logprobs() -> UsageError:
    return UsageError(
        "the endpoint gives no log-probabilities",
        "use a server that does (vLLM, llama.cpp, OpenAI), or run the model here",
    )


def completion_logprobs(answer: Mapping[str, Any]) -> Mapping[str, float]:
    """The top log-probabilities of the first written token. Raises UsageError when the server gives none."""
    tops = (first_choice(answer).get("logprobs") or {}).get("top_logprobs")
    if not tops or not tops[0]:
        raise _no_logprobs()
    table: Mapping[str, float] = tops[0]
    return table


def chat_logprobs(answer: Mapping[str, Any], opening: str) -> Mapping[str, float]:
    """The top log-probabilities of the token after `opening`, or of the first token if the answer began without it.

    Spellings that differ by white space are one answer. Nothing, if the answer went another way: all mass is missing.
    Raises UsageError when the server gives no log-probabilities.
    """
    steps = (first_choice(answer).get("logprobs") or {}).get("content")
    if not steps or not steps[0].get("top_logprobs"):
        raise _no_logprobs()
    written, place = "", None
    for index, step in enumerate(steps):
        if written.strip() == opening.strip():
            place = index
            break
        written += step.get("token", "")
    if place is None:
        begun = opening.strip().startswith(steps[0].get("token", "").strip())
        place = None if begun else 0
    table: dict[str, float] = {}
    for top in steps[place]["top_logprobs"] if place is not None else []:
        key = str(top["token"]).strip()
        table[key] = float(np.logaddexp(table.get(key, -math.inf), logarithm(top["logprob"])))
    return table
