"""A proxy before an S3 server that fails on demand."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch
from urllib.parse import urlsplit

PAGES = {"html": b"<!doctype html><p>Please log in", "xhtml": b"<html><body>Please log in</body></html>"}

ERRORS = {
    "500": (500, ""),
    "503": (503, "SlowDown"),
    "409": (409, ""),
    "404": (404, "NoSuchKey"),
    "skewed": (403, "RequestTimeTooSkewed"),
}
"""Status, and S3's code in the body if there is one."""
ERROR = "<Error><Code>{}</Code></Error>"


def flipped(data: bytes) -> bytes:
    """One bit changed, in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else data


@contextmanager
def without_pauses() -> Iterator[None]:
    """Clients repeat failed requests at once."""
    with (
        patch("nlsim.store.s3.PAUSE_SECONDS", 0.0),
        patch("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0),
    ):
        yield


class Proxy:
    """Passes HTTP on to `target`, except what `fault` names: it is asked with each request's method and path.

    Faults of the request: "reset" (it is not passed on and the connection is closed), "garbled" (one byte of what is
    uploaded changed), "500", "503", "409", "404", "skewed", "html", "xhtml" (that answer, it is not passed on).

    Faults of the answer: "lost" (it is not passed back), "truncated" (half of the body, then the connection is closed),
    "short" (half of the body, said to be all), "flipped" (one byte of the body changed), "checksum" (another checksum
    in its headers), "stale" (what was answered to the same request before), "slow" (byte by byte at first).
    """

    def __init__(self, target: str) -> None:
        self.fault: Callable[[str, str], str | None] = lambda _method, _path: None
        self.requests: list[tuple[str, str]] = []
        self.earlier: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """For each request that lists, the answer before the last one."""
        self._last: dict[str, tuple[int, dict[str, str], bytes]] = {}
        proxy, host = self, urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self._body()
                proxy.requests.append((self.command, self.path))
                fault = proxy.fault(self.command, self.path)
                if fault == "reset":
                    self.close_connection = True
                    return
                if fault in ERRORS:
                    status, code = ERRORS[fault]
                    self._answer(status, {"Content-Type": "application/xml"}, ERROR.format(code).encode() * bool(code))
                    return
                if fault in PAGES:
                    self._answer(200, {"Content-Type": "text/html"}, PAGES[fault])
                    return
                if fault == "garbled":
                    body = flipped(body)
                connection = http.client.HTTPConnection(host, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("expect", "transfer-encoding")}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                if fault == "lost":
                    self.close_connection = True
                    return
                kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
                status = answer.status
                if "list-type" in self.path:
                    if self.path in proxy._last:
                        proxy.earlier[self.path] = proxy._last[self.path]
                    proxy._last[self.path] = status, kept, data
                if fault == "stale" and self.path in proxy.earlier:
                    status, kept, data = proxy.earlier[self.path]
                    kept = dict(kept)
                if fault == "checksum":
                    kept = {k: "AAAAAA==" if k.lower().startswith("x-amz-checksum-crc") else v for k, v in kept.items()}
                if fault == "flipped":
                    data = flipped(data)
                if fault == "short":
                    data = data[: len(data) // 2]
                if self.command != "HEAD":
                    kept["Content-Length"] = str(len(data))
                if fault == "truncated":
                    data, self.close_connection = data[: len(data) // 2], True
                self._answer(status, kept, data, complete=False, slow=fault == "slow")

            def _body(self) -> bytes:
                if self.headers.get("Expect", "").lower() == "100-continue":
                    self.send_response_only(100)
                    self.end_headers()
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    parts = []
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(
                self, status: int, headers: dict[str, str], body: bytes, complete: bool = True, slow: bool = False
            ) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if complete:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for at in range(64 if slow else 0):
                    self.wfile.write(body[at : at + 1])
                self.wfile.write(body[64 if slow else 0 :])

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def fail(self, fault: str, method: str, part: str = "", times: int = 1) -> None:
        """Have the next `times` requests of this method whose path contains `part` fail."""
        left = [times]

        def choose(found: str, path: str) -> str | None:
            if found == method and part in path and left[0]:
                left[0] -= 1
                return fault
            return None

        self.fault = choose

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
