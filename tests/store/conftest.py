"""Helpers of the store's tests: an artifact with known content, a proxy that fails on demand, a small disk."""

import http.client
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest

from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.objects import open_objects

Write = Callable[[ShardWriter], None]


@pytest.fixture
def write() -> Write:
    """Writes one of each kind of object, the same for the same shard."""

    def write_all(writer: ShardWriter) -> None:
        generator = np.random.default_rng(7)
        writer.arrays("codes", {"index": generator.integers(0, 9000, (500, 8)).astype(np.uint16), "one": np.ones(3)})
        writer.table("stats", pa.table({"latent": [1, 2, 3]}))
        writer.json("facts", {"b": [1, "ä"]})
        writer.bytes("raw.bin", b"hello")
        writer.count(rows=500)

    return write_all


@pytest.fixture
def artifact(store_url: str) -> Artifact:
    """An artifact of three shards, none written, in a fresh store of each kind."""
    return Artifact(open_objects(store_url), "cache", "0123456789abcdef", 3)


PAGES = {"html": b"<!doctype html><p>Please log in", "xhtml": b"<html><body>Please log in</body></html>"}


class Proxy:
    """Passes HTTP on to `target`, except what `fault` names: it is asked with each request's method and path.

    Faults: "reset" (the request is not passed on and the connection is closed), "lost" (passed on, the answer is not),
    "truncated" (half of the body, then the connection is closed), "short" (half of the body, said to be all), "flipped"
    (one byte of the body changed), "500", "503", "409", "html", "xhtml" (that answer, the request is not passed on).
    """

    def __init__(self, target: str) -> None:
        self.fault: Callable[[str, str], str | None] = lambda _method, _path: None
        self.requests: list[tuple[str, str]] = []
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
                if fault in ("500", "503", "409"):
                    self._answer(int(fault), {}, b"")
                    return
                if fault in PAGES:
                    self._answer(200, {"Content-Type": "text/html"}, PAGES[fault])
                    return
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
                if fault == "flipped":
                    data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
                if fault == "short":
                    data = data[: len(data) // 2]
                if self.command != "HEAD":
                    kept["Content-Length"] = str(len(data))
                if fault == "truncated":
                    data, self.close_connection = data[: len(data) // 2], True
                self._answer(answer.status, kept, data, complete=False)

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

            def _answer(self, status: int, headers: dict[str, str], body: bytes, complete: bool = True) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if complete:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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


@pytest.fixture
def proxy(s3_server: dict[str, str], s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 server, and the environment set to use it. Pauses between attempts are left out."""
    made = Proxy(s3_server["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
    monkeypatch.setattr("nlsim.store.s3.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    yield made
    made.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[str, str], str]:
    """Runs Python code in the folder of a file system mounted with the given options; returns what it prints."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-r", "-m", "true"], check=False).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(options: str, code: str) -> str:
        mount = f'mount -t tmpfs -o "{options}" tmpfs "{disk}" && cd "{disk}" && exec "{sys.executable}" -c "$1"'
        command = ["unshare", "-r", "-m", "sh", "-c", mount, "sh", code]
        environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout

    return run
