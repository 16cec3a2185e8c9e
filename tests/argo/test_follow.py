"""What `nlsim submit --follow` says of a workflow, against states of it in the order given."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from argo.api import Api
from argo.workflows import REFUSED_LOOKS, follow
from nlsim.errors import IncompleteError, TransientError, UsageError


class States:
    """An `Api` whose one workflow is in the next state each time that it is read."""

    namespace = "nlsim"
    core = SimpleNamespace(list_namespaced_pod=None)

    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)

    def workflow(self, _name: str) -> dict[str, Any]:
        return {"status": self.states.pop(0) if len(self.states) > 1 else self.states[0]}

    def call(self, *_args: object, **_options: object) -> Any:
        return SimpleNamespace(items=[])


def node(name: str, phase: str, message: str = "") -> dict[str, Any]:
    return {name: {"type": "Pod", "displayName": name, "phase": phase, "message": message}}


def said(*states: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    follow(cast("Api", States(*states)), "w", lines.append, interval=0.0)
    return lines


def test_each_change_is_a_line() -> None:
    running = {"phase": "Running", "progress": "1/3"}
    lines = said({}, running, running, {"phase": "Running", "progress": "2/3"}, {"phase": "Succeeded"})
    assert [line.split("  ")[1:] for line in lines] == [
        ["Submitted"], ["Running", "1/3"], ["Running", "2/3"], ["Succeeded"],
    ]  # fmt: skip


def test_a_failure_names_the_first_pods() -> None:
    nodes = node("cache(0:0)(0)", "Succeeded") | node("index(0:0)(0)", "Failed", "main: Error (exit code 3)")
    with pytest.raises(
        IncompleteError, match=r"w failed \(index\(0:0\)\(0\): main: Error \(exit code 3\)\): `argo get"
    ):
        said({"phase": "Running"}, {"phase": "Failed", "nodes": nodes})


def test_a_quota_that_lets_no_pod_in() -> None:
    """Said when it lasts and no pod is at work, whose end may make room."""
    refused = node("score(1:1)(0)", "Pending", 'pods "w-1" is forbidden: exceeded quota: tight')
    stuck = {"phase": "Running", "nodes": refused | node("score(0:0)(0)", "Pending", "ContainerCreating")}
    busy = {"phase": "Running", "nodes": refused | node("score(0:0)(0)", "Running")}
    few = [stuck] * (REFUSED_LOOKS - 1)
    assert len(said(*few, busy, *few, {"phase": "Succeeded"})) == 2
    with pytest.raises(TransientError, match=r"cannot create pods: pods \"w-1\" is forbidden: exceeded quota: tight"):
        said(*few, busy, stuck)


def test_no_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argo.workflows.UNSEEN_SECONDS", -1.0)
    with pytest.raises(UsageError, match="no controller took up workflow w: is Argo's workflow-controller running"):
        said({})
