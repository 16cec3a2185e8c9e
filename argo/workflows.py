"""Submit a run as an Argo workflow, through the Kubernetes API alone, and follow it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from argo.names import dns_name, label_value
from argo.trouble import troubles
from nlsim.base import digest
from nlsim.errors import IncompleteError, TransientError, UsageError

if TYPE_CHECKING:
    from argo.api import Api
    from argo.pod import Json

FINISHED = {"Succeeded", "Failed", "Error"}
UNSEEN_SECONDS = 60.0
"""A controller that runs takes a workflow up within seconds."""
WAITS = "put that right; the workflow waits for it, `argo stop` gives up"
REFUSED_LOOKS = 5
"""A pod that is refused this many looks in a row, while none is at work, does not get in by itself."""


class Submitted(NamedTuple):
    """A workflow in the cluster."""

    name: str
    created: bool
    """False: the run was being carried out already, by this workflow."""


def versioned(template: Json) -> Json:
    """The template under a name that contains its content's digest: what a running workflow refers to never changes."""
    metadata = template["metadata"]
    name = f"{metadata['name'][:54]}-{digest(template)[:8]}"
    return template | {"metadata": metadata | {"name": name}}


def submit(api: Api, template: Json, run_url: str, run_name: str) -> Submitted:
    """Create the template and a workflow from it, unless a workflow is at work on the run already."""
    marks = {"nlsim/run": label_value(run_name), "nlsim/run-digest": digest(run_url)}
    for other in api.workflows(f"nlsim/run-digest={marks['nlsim/run-digest']}"):
        if other.get("status", {}).get("phase") not in FINISHED:
            return Submitted(other["metadata"]["name"], created=False)
    made = api.create("workflowtemplates", versioned(template))
    workflow = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{dns_name(run_name)}-", "labels": marks},
        "spec": {
            "workflowTemplateRef": {"name": made["metadata"]["name"]},
            "arguments": {"parameters": [{"name": "run", "value": run_url}]},
        },
    }
    return Submitted(api.create("workflows", workflow)["metadata"]["name"], created=True)


def follow(
    api: Api,
    name: str,
    echo: Callable[[str], None],
    pending_minutes: float = 30.0,
    interval: float = 3.0,
) -> None:
    """Print what changes until the workflow ends.

    Raises IncompleteError when it failed, UsageError without a controller, TransientError when no pod can be created
    or one cannot start.
    """
    started = time.monotonic()
    last: tuple[str, ...] = ()
    refused = 0
    while True:
        workflow = api.workflow(name)
        status = workflow.get("status", {})
        phase = status.get("phase", "")
        if not phase and time.monotonic() - started > UNSEEN_SECONDS:
            raise UsageError(f"no controller took up workflow {name}", "is Argo's workflow-controller running?")
        line = (phase or "Submitted", status.get("progress", ""), status.get("message", ""))
        if line != last:
            echo("  ".join(filter(None, (time.strftime("%H:%M:%S"), *line))))
            last = line
        if phase in FINISHED:
            if phase != "Succeeded":
                reason = status.get("message") or "; ".join(failures(status)) or phase
                raise IncompleteError(
                    f"workflow {name} failed ({reason})",
                    f"`argo get {name}` shows where; `argo retry {name}`, or submit again, does only the rest",
                )
            return
        refusal = refusal_of(status)
        refused = refused + 1 if refusal is not None else 0
        if refused == REFUSED_LOOKS:
            raise TransientError(f"workflow {name} cannot create pods: {refusal}", WAITS)
        _raise_trouble(api, f"workflows.argoproj.io/workflow={name}", pending_minutes)
        time.sleep(interval)


def failures(status: Json) -> Iterator[str]:
    """The first messages of failed pods, where the status is not compressed."""
    bad = [node for node in _pods(status) if node.get("phase") in {"Failed", "Error"} and _message(node)]
    for node in bad[:3]:
        yield f"{node['displayName']}: {_message(node)}"


def refusal_of(status: Json) -> str | None:
    """Why the API server takes no pod, e.g. a quota; None while a pod is at work, whose end may make room."""
    pods = _pods(status)
    if any(node.get("phase") == "Running" for node in pods):
        return None
    return next((_message(n) for n in pods if n.get("phase") == "Pending" and "forbidden" in _message(n)), None)


def _message(node: Json) -> str:
    return str(node.get("message") or "")


def _pods(status: Json) -> list[Json]:
    """The nodes that are pods; none where the controller stores them compressed."""
    return [node for node in status.get("nodes", {}).values() if node.get("type") == "Pod"]


def _raise_trouble(api: Api, selector: str, pending_minutes: float) -> None:
    pods = api.call(
        "list pods",
        api.core.list_namespaced_pod,
        api.namespace,
        label_selector=selector,
        field_selector="status.phase=Pending",
        limit=200,
    ).items
    for trouble in troubles(pods, pending_minutes):
        if trouble.final:
            raise TransientError(f"pod {trouble.pod} cannot start: {trouble.reason}", WAITS)
