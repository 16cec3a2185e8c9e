"""An OpenAI-compatible server on this machine that answers, and fails, as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from nlsim.lm.openai import OpenAIEngine
from nlsim.lm.prompts import PromptTree, from_prompts
from nlsim.lm.templates import Message, Template

KEY = "sk-test-4f9d2b"
Reply = tuple[int, dict[str, str], Any]
"""Status (0: hang up without a word), headers, and what to say: bytes, JSON, or an iterator of bytes."""


class Server:
    """Answers with `reply(path, body, number of the request)`; keeps what it was asked."""

    def __init__(self, reply: Callable[[str, dict[str, Any], int], Reply] | None = None) -> None:
        self.reply: Callable[[str, dict[str, Any], int], Reply] = reply or chat_digits
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.busy = self.most_busy = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer.lock:
                    outer.asked.append((self.path, body, dict(self.headers)))
                    number = len(outer.asked)
                    outer.busy += 1
                    outer.most_busy = max(outer.most_busy, outer.busy)
                status, headers, answer = outer.reply(self.path, body, number)
                with outer.lock:
                    outer.busy -= 1
                if status == 0:  # die without a word
                    self.close_connection = True
                    return
                parts = answer if isinstance(answer, Iterator) else iter([encoded(answer)])
                first = next(parts)
                self.send_response(status)
                for name, value in {"content-length": str(len(first)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(first)
                for part in parts:
                    self.wfile.write(part)

            def log_message(self, *_: Any) -> None:
                pass

        class Http(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that has gone is no news."""

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.http.shutdown()
        self.http.server_close()


def encoded(answer: Any) -> bytes:
    """Bytes as they are, anything else as JSON."""
    return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def top(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob}


def chat_digits(path: str, body: dict[str, Any], number: int) -> Reply:
    """The digit is the number of letters in the last message, mod 10; it gets probability 3/4, its neighbour 1/8."""
    digit = len(body["messages"][-1]["content"]) % 10
    tops = [top(str(digit), np.log(0.75)), top(f" {digit}", np.log(0.0625)), top(str((digit + 1) % 10), np.log(0.125))]
    message = {"choices": [{"logprobs": {"content": [{"token": str(digit), "top_logprobs": tops}]}}]}
    return 200, {}, {**message, "usage": {"prompt_tokens": 11, "completion_tokens": 1}}


def prompts(engine: OpenAIEngine, lengths: list[int]) -> PromptTree:
    template = Template(engine.tokenizer)
    texts = [template.text([Message("system", "s"), Message("user", "x" * n)]) for n in lengths]
    return from_prompts([template.encode(text) for text in texts])


def digits() -> list[int]:
    return [ord(digit) for digit in "0123456789"]
