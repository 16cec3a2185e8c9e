"""Clusters that lack something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from api_server import ARGO, HERE, Server, serving

from error_cases.bench import Bench, Case, Said, case


def submit(bench: Bench, *words: object, url: str = "s3://bucket/run") -> Said:
    bench.fixture("toy_pipeline")
    return bench.nlsim("submit", bench.small(), "--run", url, *words)


def without(path: str = "", denied: tuple[str, str] | None = None) -> Case:
    """A cluster without an object, or a permission."""

    def asked(bench: Bench) -> Said:
        with serving(bench.tmp, bench.patch) as server:
            server.there.discard(path)
            server.denied = {denied} if denied else set()
            return submit(bench, "--dry-run")

    return asked


case("no namespace")(without(HERE))
case("no definitions of Argo's")(without(ARGO))
case("no permission")(without(denied=("create", "workflows")))
case("a missing secret, service account, volume claim, priority class")(without(f"{HERE}/secrets/nlsim-store"))


@case("a cluster that does not answer")
def _(bench: Bench) -> Said:
    with serving(bench.tmp, bench.patch):
        bench.patch.setattr(Server, "answer", lambda *_: (503, {"kind": "Status", "message": "starting"}))
        return submit(bench, "--dry-run")


def followed(status: dict[str, Any], unseen: float = 90.0) -> Case:
    """A workflow that stays in a state."""

    def asked(bench: Bench) -> Said:
        from argo.workflows import Submitted

        api = SimpleNamespace(
            context="test",
            namespace="nlsim",
            core=SimpleNamespace(list_namespaced_pod=None),
            workflow=lambda _name: {"status": status},
            call=lambda *_, **__: SimpleNamespace(items=[]),
        )
        bench.patch.setattr("argo.api.connect", lambda *_: api)
        bench.patch.setattr("argo.checks.problems", lambda *_: [])
        bench.patch.setattr("argo.workflows.submit", lambda *_: Submitted("toy-1", True))
        bench.patch.setattr("argo.workflows.UNSEEN_SECONDS", unseen)
        bench.patch.setattr("argo.workflows.time.sleep", lambda _: None)
        return submit(bench, "--follow", url=bench.fixture("s3_url"))

    return asked


REFUSED = {"type": "Pod", "displayName": "a", "phase": "Pending", "message": 'pods "a" is forbidden: exceeded quota: q'}
case("no workflow controller")(followed({}, unseen=-1.0))
case("the same in a workflow")(followed({"phase": "Running", "nodes": {"a": REFUSED}}))
case("a wrong setting of the cluster")(
    lambda bench: bench.nlsim("render", bench.small(), "--cluster", bench.file("c.yaml", "gpu: {shared_memory_gb: 0}"))
)
