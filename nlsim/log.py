"""Logs: readable lines on a terminal, one JSON object per line elsewhere. Always on stderr: stdout is for results."""

import datetime
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

FACTS = "nlsim_facts"
"""Attribute of a log record that carries an event's named values."""

_about: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - never altered, only replaced


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Name these values (run, stage, shard) in every log line of the body."""
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "event", "run", "stage", "shard", …facts}`: those three while a shard is at work."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_about.get(),
        }
        line.update(getattr(record, FACTS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


class PlainFormatter(logging.Formatter):
    """`event key=value …` for people."""

    def format(self, record: logging.LogRecord) -> str:
        named = {key: value for key, value in _about.get().items() if key != "run"} | getattr(record, FACTS, {})
        facts = " ".join(f"{key}={value}" for key, value in named.items())
        text = one_line(f"{record.getMessage()} {facts}")
        return text if not record.exc_info else f"{text}\n{printable(self.formatException(record.exc_info))}"


def printable(text: str) -> str:
    """`text` with control characters shown as escapes, so that data cannot drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def printable_json(text: str) -> str:
    """JSON text with what cannot be printed written as JSON escapes: the same values, and no terminal is driven."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """`text` on one line, printable."""
    return printable(" ".join(text.split()))


def people_read_stderr() -> bool:
    """Whether stderr is a terminal and `NLSIM_LOG` does not ask for JSON."""
    return sys.stderr.isatty() and os.environ.get("NLSIM_LOG") != "json"


def setup(debug: bool = False) -> None:
    """Send the log of nlsim to stderr. Libraries' logs show only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter() if people_read_stderr() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("nlsim").setLevel(logging.DEBUG if debug else logging.INFO)


def event(message: str, /, level: int = logging.INFO, **facts: Any) -> None:
    """Log that something happened, with named values."""
    logging.getLogger("nlsim").log(level, message, extra={FACTS: facts})
