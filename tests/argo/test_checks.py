"""What `nlsim submit` finds missing on a cluster, against an API server that has exactly what a test gives it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ARGO, HERE, Server, serving
from argo_shapes import CHAIN, FULL, PLAIN, WIDE
from urllib3.exceptions import ProtocolError

from argo.api import connect
from argo.checks import problems
from argo.cluster import Cluster
from argo.template import StageShape
from nlsim.errors import TransientError, UsageError


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(tmp_path, monkeypatch) as made:
        yield made


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
