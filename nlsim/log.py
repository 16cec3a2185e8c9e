"""Logs: readable lines on a terminal, one JSON object per line elsewhere. Always on stderr: stdout is for results."""

import datetime
import json
import logging
import os
import sys
from typing import Any

FACTS = "nlsim_facts"
"""Attribute of a log record that carries an event's named values."""


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "event", …facts}`, plus run, stage and shard where the environment names them."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, FACTS, {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


class PlainFormatter(logging.Formatter):
    """`event key=value …` for people."""

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{key}={value}" for key, value in getattr(record, FACTS, {}).items())
        text = printable(f"{record.getMessage()} {facts}".rstrip())
        return text if not record.exc_info else f"{text}\n{self.formatException(record.exc_info)}"


def printable(text: str) -> str:
    """`text` with control characters shown as escapes, so that data cannot drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


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
