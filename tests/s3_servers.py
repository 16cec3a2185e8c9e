"""S3 servers to test against: moto's, in this process or one of its own, and versitygw where it is installed."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

COMMON = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "4", "AWS_REGION": "us-east-1"}
OWN = {
    **COMMON,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""For servers that are started here."""


@contextmanager
def moto() -> Iterator[dict[str, str]]:
    """moto's server in a thread of this process; environment variables that lead to it."""
    server = _moto_server(0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield {**OWN, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    server.shutdown()
    thread.join()


@contextmanager
def moto_apart() -> Iterator[dict[str, str]]:
    """moto's server in a process of its own, for tests that fork."""
    port = _free_port()
    with _started([sys.executable, __file__, str(port)], port):
        yield {**OWN, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


@contextmanager
def versitygw(folder: Path) -> Iterator[dict[str, str]]:
    """The gateway to a folder. Raises FileNotFoundError where it is not installed."""
    program = shutil.which("versitygw")
    if program is None:
        raise FileNotFoundError("versitygw")
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    secrets = {"ROOT_ACCESS_KEY": OWN["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": OWN["AWS_SECRET_ACCESS_KEY"]}
    command = [program, "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    with _started(command, port, {**os.environ, **secrets}):
        yield {**OWN, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def _moto_server(port: int) -> Any:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: object, **__: object) -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with one_at_a_time:  # moto checks and writes in two steps; a real server's conditional put is atomic
            return list(application(environ, start_response))

    return make_server("127.0.0.1", port, answer, threaded=True, request_handler=Quiet)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _started(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    """A server process, from when it answers on its port."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{command[0]} did not start")
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    _moto_server(int(sys.argv[1])).serve_forever()
