"""An API server of Kubernetes that has exactly what a test gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

VERSION = dict.fromkeys(
    ("buildDate", "compiler", "gitCommit", "gitTreeState", "gitVersion", "goVersion", "major", "minor", "platform"), "1"
)
HERE = "/api/v1/namespaces/nlsim"
ARGO = "/apis/argoproj.io/v1alpha1"
SECRETS = ("nlsim-store", "nlsim-executor.service-account-token", "r")
ACCOUNTS = ("nlsim-stage", "nlsim-executor", "nlsim-jobs")
EVERYTHING = {
    HERE,
    ARGO,
    *(f"{HERE}/secrets/{name}" for name in SECRETS),
    *(f"{HERE}/serviceaccounts/{name}" for name in ACCOUNTS),
    f"{HERE}/configmaps/nlsim-limits",
    f"{HERE}/persistentvolumeclaims/models",
    "/apis/scheduling.k8s.io/v1/priorityclasses/nlsim-gpu",
}


@dataclass
class Server:
    """What the API server has, and what it allows."""

    there: set[str] = field(default_factory=lambda: set(EVERYTHING))
    denied: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource) that this user may not."""
    secret: set[str] = field(default_factory=set)
    """Paths that this user may not read."""

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        if path.startswith("/version"):
            return 200, VERSION
        if body is not None:
            asked = body["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self.denied
            return 201, {"spec": {}, "status": {"allowed": allowed}}
        if path in self.secret:
            return 403, {"kind": "Status", "message": "forbidden"}
        found = {"metadata": {}, "groupVersion": "argoproj.io/v1alpha1", "resources": []}
        return (200, found) if path.rstrip("/") in self.there else (404, {"kind": "Status", "message": "no"})


@contextmanager
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that KUBECONFIG leads to."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def reply(self, body: dict[str, Any] | None) -> None:
            status, found = state.answer(self.path, body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        kubeconfig = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{http.server_address[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        monkeypatch.setenv("KUBECONFIG", str(path))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        yield state
        http.shutdown()
