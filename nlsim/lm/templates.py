"""From turns of a conversation to prompt text and tokens: by the model's chat template, or as plain text."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from nlsim.errors import UsageError
from nlsim.lm.prompts import IntArray


class Tokenizer(Protocol):
    """What is used of a Hugging Face tokenizer."""

    chat_template: Any

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Tokens beside the learned vocabulary, with their `content` and whether they are `special`."""

    def get_chat_template(self) -> str:
        """The chat template in use."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids."""

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """The conversation as the model's chat template writes it."""


PINNED_CLOCK = "{%- macro strftime_now(form) -%}{{ pinned[form] }}{%- endmacro -%}"
"""Put before a chat template that asks for the time: a prompt must be the same tomorrow."""


TURN_MARKS = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|\[/?[A-Z_]{3,24}\]|<</?[A-Z]{2,8}>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos)>"
)
"""What marks turns in the templates of most families."""


class Message(NamedTuple):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class Forced(NamedTuple):
    """An answer whose beginning is given, so that it goes on with exactly one of a few tokens."""

    opening: str
    """What the assistant's turn begins with: may differ from what was asked by a space moved into the answers."""
    tokens: tuple[int, ...]
    """One token per answer."""


class Template:
    """Writes prompts for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, kind: str = "auto", date: str = "2025-01-01") -> None:
        """`kind` is auto, chat or base; raises UsageError for `chat` without a chat template."""
        if kind == "chat" and not tokenizer.chat_template:
            raise UsageError("the model has no chat template", "set lm.template to base or auto")
        self.tokenizer = tokenizer
        self.kind = "chat" if tokenizer.chat_template and kind != "base" else "base"
        self._day = datetime.date.fromisoformat(date)
        known = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        if self.kind == "chat":  # some templates write marks that are ordinary text
            known |= set(TURN_MARKS.findall(tokenizer.get_chat_template()))
        marks = sorted((mark for mark in known if len(mark) > 1), key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, marks))) if marks else TURN_MARKS
        self._begin = tokenizer.encode("") if self.kind == "base" else []  # BOS, where the tokenizer wants one

    def text(self, messages: Sequence[Message], opening: str = "") -> str:
        """The prompt up to and with `opening`, with which the assistant's next turn is made to begin.

        Special tokens and the template's marks spelled out inside a message are broken up, so that text cannot end a
        turn. Of a server's model, whose tokenizer is not known, what usually is one.
        """
        turns = [{"role": message.role, "content": self._defuse(message.content)} for message in messages]
        if self.kind == "base":
            return "".join(turn["content"] + ("\n" if turn["role"] == "user" else "\n\n") for turn in turns) + opening
        try:
            return self._chat(turns) + opening
        except Exception as error:  # jinja2's or the template's own: many families know no system turn
            if turns[0]["role"] != "system" or len(turns) == 1:
                raise UsageError(
                    f"the model's chat template rejects the prompt ({error})", "set lm.template to base"
                ) from error
            joined = {"role": "user", "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
            return self._chat([joined, *turns[2:]]) + opening

    def _chat(self, turns: list[dict[str, str]]) -> str:
        template = self.tokenizer.get_chat_template()
        forms = set(re.findall(r"""strftime_now\(\s*["'](.*?)["']""", template))
        text: str = self.tokenizer.apply_chat_template(
            turns,
            chat_template=(PINNED_CLOCK if forms else "") + template,
            tokenize=False,
            add_generation_prompt=True,
            date_string=self._day.strftime("%d %b %Y"),
            pinned={form: self._day.strftime(form) for form in forms},
        )
        return text

    def _defuse(self, content: str) -> str:
        return self._marks.sub(lambda found: found[0][0] + " " + found[0][1:], content)

    def encode(self, text: str) -> IntArray:
        """Tokens of a whole prompt as `text` wrote it, with the beginning-of-text token once where the model has one.

        Pieces of a prompt must not be encoded apart: a tokenizer may merge across the seam.
        """
        return np.asarray([*self._begin, *self.tokenizer.encode(text, add_special_tokens=False)], dtype=np.int64)

    def force(self, opening: str, answers: Sequence[str]) -> Forced:
        """Make each answer one token after `opening`, in this template.

        Raises UsageError when the tokenizer merges the opening with an answer or splits an answer.
        """
        forms = [(opening, list(answers)), (opening.rstrip(" "), [" " + answer for answer in answers])]
        for begin, forms_of_answers in forms if opening.endswith(" ") else forms[:1]:
            prompt = self.text([Message("user", "x")], begin)
            before = self.encode(prompt)
            found = [self.encode(prompt + answer)[len(before) :] for answer in forms_of_answers]
            kept = all(
                np.array_equal(self.encode(prompt + answer)[: len(before)], before) for answer in forms_of_answers
            )
            tokens = tuple(int(ids[0]) for ids in found if len(ids) == 1)
            if kept and len(set(tokens)) == len(answers):
                return Forced(begin, tokens)
        split = next((answer for answer, ids in zip(answers, found, strict=True) if len(ids) > 1), None)
        what = f"splits the answer {split!r}" if kept and split is not None else f"merges {opening!r} with an answer"
        raise UsageError(
            f"the model's tokenizer {what}, so answers cannot be read from one token",
            "set lm.template, or use another model",
        )
