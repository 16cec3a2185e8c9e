"""Conversations as documents: a column of messages, written by the subject's own chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlsim.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}
"""Names that data sets have for roles → those of chat templates."""
ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_. -]{0,31}")
"""What can be a role: templates write it as it is, so it must not hold a special token."""


class Message(NamedTuple):
    """One turn."""

    role: str
    content: str


def text_or_turns(value: object, where: str, column: str) -> tuple[str, tuple[Message, ...]]:
    """What a column holds for one document: its text, or the turns of a conversation and what tells it from others.

    Turns are {"role", "content"} or {"from", "value"}; a null and an empty list are an empty text. Raises DataError for
    anything else.
    """
    if isinstance(value, list):
        turns = tuple(_turn(turn, where) for turn in value)
        return (json.dumps(turns, ensure_ascii=False) if turns else ""), turns
    if not isinstance(value, str | None):
        raise DataError(f"{where}: {column!r} holds {type(value).__name__}, not text", "set corpus.source.column")
    return value or "", ()


def _turn(turn: object, where: str) -> Message:
    known = turn if isinstance(turn, dict) else {}
    role, content = known.get("role", known.get("from")), known.get("content", known.get("value"))
    if not isinstance(role, str) or not ROLE.fullmatch(role) or not isinstance(content, str):
        raise DataError(f"{where} holds a list that is no conversation", 'each turn is {"role": …, "content": …}')
    return Message(ROLES.get(role, role), content)


def encode_chat(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message]) -> NDArray[np.int32]:
    """The tokens of a conversation as the template writes it, without a BOS at its start.

    The template's special tokens are themselves; a special token's spelling inside a turn is ordinary text, so that no
    text can end a turn. Raises UsageError for a tokenizer without a template, DataError for turns that it refuses.
    """
    if not tokenizer.chat_template:
        raise UsageError("the subject's tokenizer has no chat template", "take a chat model, or a column of plain text")
    spelled = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    hostile = any(special in turn.content for turn in messages for special in spelled)
    # turns that spell special tokens are kept apart while the template is written, each by a mark that no text has
    marks = [f"\ue000{number}\ue001" for number in range(len(messages))] if hostile else []
    shown = marks or [turn.content for turn in messages]
    try:
        named = [{"role": turn.role, "content": content} for turn, content in zip(messages, shown, strict=True)]
        text = str(tokenizer.apply_chat_template(named, tokenize=False))
    except Exception as error:  # templates are programs: what they raise is theirs
        raise DataError(
            f"the chat template refuses a conversation ({error})", "check the roles of its turns"
        ) from error
    ids: list[int] = []
    for mark, turn in zip(marks, messages if hostile else (), strict=True):
        before, _, text = text.partition(mark)
        ids += _ids(tokenizer, before, special=True) + _ids(tokenizer, turn.content, special=False)
    ids += _ids(tokenizer, text, special=True)
    if ids and ids[0] == tokenizer.bos_token_id:
        ids = ids[1:]
    return np.asarray(ids, np.int32)


def _ids(tokenizer: PreTrainedTokenizerFast, text: str, *, special: bool) -> list[int]:
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = not special
    found: list[int] = backend.encode(text, add_special_tokens=False).ids if text else []
    return found
