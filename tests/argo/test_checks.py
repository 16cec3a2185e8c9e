"""What `nlsim submit` finds missing on a cluster, against an API server that has exactly what a test gives it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from argo_shapes import CHAIN, FULL, PLAIN, WIDE
from urllib3.exceptions import ProtocolError

from argo.api import connect
from argo.checks import problems
from argo.cluster import Cluster
from argo.template import StageShape
from nlsim.errors import TransientError, UsageError

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


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
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


def found(engine: str, cluster: Cluster = PLAIN, shapes: tuple[StageShape, ...] = CHAIN) -> list[str]:
    return problems(connect("nlsim"), cluster, engine, list(shapes))


@pytest.mark.parametrize("engine", ["argo", "job"])
@pytest.mark.parametrize(("cluster", "shapes"), [(PLAIN, CHAIN), (FULL, WIDE)], ids=["plain", "full"])
def test_nothing_is_missing(server: Server, engine: str, cluster: Cluster, shapes: tuple[StageShape, ...]) -> None:
    assert found(engine, cluster, shapes) == []


def test_no_argo(server: Server) -> None:
    """No definitions: one line, and the other engine does not need them."""
    server.there.remove(ARGO)
    assert found("argo") == [
        "Argo Workflows (argoproj.io/v1alpha1) is missing on this cluster: install it, or use --engine job"
    ]
    assert found("job") == []


def test_no_namespace(server: Server) -> None:
    server.there = set()
    assert found("job") == ["namespace nlsim is missing: kubectl apply -k k8s/base"]


@pytest.mark.parametrize(
    ("engine", "verb", "resource"),
    [("argo", "create", "workflows"), ("argo", "list", "pods"), ("job", "create", "jobs"), ("job", "list", "events")],
)
def test_the_missing_verb_is_named(server: Server, engine: str, verb: str, resource: str) -> None:
    server.denied = {(verb, resource)}
    assert found(engine) == [f"you may not {verb} {resource} in namespace nlsim: ask for the role nlsim-submitter"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{HERE}/secrets/nlsim-store", "secret nlsim-store is missing: kubectl create secret generic nlsim-store"),
        (f"{HERE}/secrets/r", "image pull secret r is missing"),
        (f"{HERE}/secrets/nlsim-executor.service-account-token", "(the executor's token) is missing: install charts"),
        (f"{HERE}/serviceaccounts/nlsim-jobs", "service account nlsim-jobs is missing: install charts/nlsim"),
        (f"{HERE}/configmaps/nlsim-limits", "GPU semaphore: config map nlsim-limits is missing"),
        (f"{HERE}/persistentvolumeclaims/models", "model cache: persistent volume claim models is missing"),
        ("/apis/scheduling.k8s.io/v1/priorityclasses/nlsim-gpu", "priority class nlsim-gpu is missing"),
    ],
)
def test_each_missing_object_is_one_line(server: Server, path: str, said: str) -> None:
    server.there.remove(path)
    (line,) = found("argo", FULL.model_copy(update={"workload_identity": False}), WIDE)
    assert said in line


def test_what_may_not_be_read_is_not_called_missing(server: Server) -> None:
    server.secret = {f"{HERE}/secrets/nlsim-store"}
    assert found("job") == []


def test_a_cluster_that_is_gone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "answer", lambda *_: (503, {"kind": "Status", "message": "starting"}))
    with pytest.raises(UsageError, match="the cluster of context test does not answer at http://127"):
        connect("nlsim")


def test_answers_of_the_api_server(server: Server) -> None:
    """What is not there is None, a refusal is final, a lost connection is worth another try."""
    api = connect("nlsim")
    read = api.core.read_namespaced_secret
    assert api.find("read secret a", read, "nlsim-store", "nlsim") is not None
    assert api.find("read secret b", read, "b", "nlsim") is None
    server.secret = {f"{HERE}/secrets/nlsim-store"}
    with pytest.raises(UsageError, match=r"cannot read secret a: forbidden: ask for that permission"):
        api.find("read secret a", read, "nlsim-store", "nlsim")

    def lost(*_args: object) -> None:
        raise ProtocolError("Connection aborted.")

    for ask in (api.find, api.call):
        with pytest.raises(TransientError, match=r"cannot read: the API server does not answer \(Connection aborted"):
            ask("read", lost)
