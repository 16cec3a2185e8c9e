"""Reading what others have written: whatever is wrong with it is one clear error, and text is text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from nlsim.errors import DataError, NlsimError, UsageError, is_out_of_memory
from nlsim.log import one_line

LARGEST_YAML = 100_000
"""Values of a YAML file, aliases counted as often as they are used."""


@contextmanager
def reading(what: str | Path, todo: str, form: str = "") -> Iterator[None]:
    """Make whatever fails in the body, for whatever reason, a DataError that `what` cannot be read (as `form`).

    For the one place where a foreign file becomes data of ours: its parsers raise what they like, from TypeError to
    RecursionError. Errors of nlsim pass, and want of memory, which is no fault of the file.
    """
    try:
        yield
    except NlsimError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"{what} cannot be read{f' as {form}' if form else ''} ({reason(error)})", todo) from error


def reason(error: Exception) -> str:
    """The first line of what an error says, or its type's name."""
    if isinstance(error, KeyError) and error.args:  # it says the key alone
        return one_line(f"no {error.args[0]}")[:200]
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return one_line(first)[:200] or type(error).__name__


def local_path(text: str | Path) -> Path:
    """A path as people write it, `~` for a home folder. Raises UsageError for a home that is nobody's."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text}: there is no such home folder", "write the path in full") from error


def hub_remedy(error: Exception, otherwise: str) -> str:
    """What to do about a failure of the Hugging Face hub: get access where that was denied, else `otherwise`."""
    said = str(error).lower()
    if "repository not found" in said:  # what the hub says of private ones too
        return f"{otherwise}; if it is private or gated, set HF_TOKEN"
    denied = re.search(r"gated|\b40[13]\b", said)
    return "accept its licence on huggingface.co, then set HF_TOKEN" if denied else otherwise


def well_formed(text: str) -> str:
    """`text` with every lone surrogate, which JSON can spell and no file or tokenizer takes, as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def json_of(data: bytes | str) -> Any:
    """A JSON value, its texts well-formed. Raises ValueError for what is none, deep nesting included."""
    try:
        value = json.loads(data)
        return _formed(value) if "\\ud" in (data.decode() if isinstance(data, bytes) else data).lower() else value
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _formed(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, dict):
        return {well_formed(key): _formed(item) for key, item in value.items()}
    return [_formed(item) for item in value] if isinstance(value, list) else value


def yaml_of(text: bytes | str) -> Any:
    """A YAML value. Raises ValueError for what is none, holds itself, or is larger than its text by its aliases."""
    try:
        value = yaml.safe_load(text)
        left = LARGEST_YAML
        waiting = [value]
        while waiting:
            item = waiting.pop()
            waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
            left -= 1
            if not left:
                raise ValueError("it is too large, or holds itself")
    except Exception as error:  # PyYAML's constructors raise whatever Python's do
        raise ValueError(one_line(str(error)) or type(error).__name__) from error
    return value
