"""What must hold of every workflow, whatever the pipeline and the cluster."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from argo_shapes import CHAIN, FULL, PLAIN, WIDE
from hypothesis import given, settings
from hypothesis import strategies as st

from argo.cluster import Cluster
from argo.render import to_yaml
from argo.template import StageShape, workflow_template
from nlsim.pipeline.stage import Resources

KNOWN = {
    "workflow.parameters.run", "workflow.name", "workflow.status", "workflow.duration", "status", "duration", "item",
}  # fmt: skip
CASES = [(CHAIN, PLAIN), (CHAIN, FULL), (WIDE, PLAIN), (WIDE, FULL)]


def build(shapes: tuple[StageShape, ...], cluster: Cluster) -> dict[str, Any]:
    return dict(workflow_template("nlsim-case", list(shapes), cluster).to_dict())


@pytest.fixture(params=CASES, ids=["chain", "chain-full", "wide", "wide-full"])
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return build(*request.param)


def templates(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {template["name"]: template for template in workflow["spec"]["templates"]}
    assert len(found) == len(workflow["spec"]["templates"]), "two templates of one name"
    return found


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def test_every_container_can_run_under_restricted_pod_security(workflow: dict[str, Any]) -> None:
    """Argo's own containers get a security context too: a stock controller gives them none."""
    pod = workflow["spec"]["securityContext"]
    assert pod["runAsNonRoot"]
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for template in templates(workflow).values():
        if not {"container", "resource"} & template.keys():
            continue
        patch = json.loads(template["podSpecPatch"])
        own = [template["container"]] if "container" in template else []
        added = [c for c in patch["containers"] + patch["initContainers"] if "securityContext" in c]
        assert {c["name"] for c in added} == ({"init", "wait"} if own else {"init", "main"})
        for container in own + added:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        for container in own:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_every_leaf_has_command_limits_retry_and_a_tagged_image(workflow: dict[str, Any]) -> None:
    for template in templates(workflow).values():
        if "container" in template:
            container = template["container"]
            assert container["command"] == ["nlsim"]  # without a command Argo asks a registry for the entry point
            assert re.search(r"(:[\w.]+|@sha256:[0-9a-f]{64})$", container["image"])
            assert not container["image"].endswith(":latest")
            limits, requests = container["resources"]["limits"], container["resources"]["requests"]
            assert limits | {"cpu": ""} == requests | {"cpu": ""}  # memory and GPUs are promised once
            assert template["activeDeadlineSeconds"] > 0
            assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108
            assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in template["volumes"]}
        if {"container", "resource"} & template.keys():
            retry = template["retryStrategy"]
            assert retry["retryPolicy"] == "Always"
            assert "75" in retry["expression"]
            assert not re.search(r"\b[234]\b", retry["expression"])
            assert "timeout" not in template


def test_stage_pods_have_no_token(workflow: dict[str, Any]) -> None:
    assert workflow["spec"]["automountServiceAccountToken"] is False
    for template in templates(workflow).values():
        if "container" in template:
            assert "serviceAccountName" not in template
            assert "automountServiceAccountToken" not in template


def test_references_resolve_and_loops_return_nothing(workflow: dict[str, Any]) -> None:
    known = templates(workflow)
    assert workflow["spec"]["entrypoint"] in known
    assert workflow["spec"]["hooks"]["exit"]["template"] in known
    for template in known.values():
        inputs = {f"inputs.parameters.{p['name']}" for p in template.get("inputs", {}).get("parameters", [])}
        tasks = {task["name"]: task for task in template.get("dag", {}).get("tasks", [])}
        outputs = set()
        for name, task in tasks.items():
            called = known[task["template"]]
            wanted = {p["name"] for p in called.get("inputs", {}).get("parameters", [])}
            given = {p["name"] for p in task.get("arguments", {}).get("parameters", [])}
            assert given == wanted, f"{name} gives {given}, {called['name']} wants {wanted}"
            assert set(task.get("dependencies", [])) <= tasks.keys()
            if "withParam" not in task:  # outputs of loops are never read
                outputs |= {
                    f"tasks.{name}.outputs.parameters.{p['name']}"
                    for p in called.get("outputs", {}).get("parameters", [])
                }
        for text in strings(template):
            for reference in re.findall(r"\{\{([^=}][^}]*)\}\}", text):
                assert reference in KNOWN | inputs | outputs, f"{template['name']}: {reference}"
        for task in tasks.values():
            for reference in re.findall(r"\{\{tasks\.(\w+)", json.dumps(task)):
                assert reference in task["dependencies"]


def test_only_indices_travel(workflow: dict[str, Any]) -> None:
    """A shard's pod gets the run's URL and its index, nothing that grows with the data."""
    for name, template in templates(workflow).items():
        if name.endswith("-shard"):
            stage = name.removesuffix("-shard")
            expected = ["stage", stage, "--run", "{{workflow.parameters.run}}"]
            assert template["container"]["args"] == [*expected, "--shard-index", "{{inputs.parameters.index}}"]


def test_gpu_stages_are_placed_and_capped() -> None:
    shard = templates(build(CHAIN, FULL))["simulate-shard"]
    assert shard["container"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert shard["nodeSelector"] == {"accelerator": "h100"}
    assert shard["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert shard["priorityClassName"] == "nlsim-gpu"
    assert shard["synchronization"]["semaphores"] == [{"configMapKeyRef": {"name": "nlsim-limits", "key": "gpu"}}]
    assert json.loads(shard["podSpecPatch"])["runtimeClassName"] == "nvidia"
    volumes = {volume["name"]: volume for volume in shard["volumes"]}
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    other = templates(build(CHAIN, FULL))["tokens-shard"]
    assert not {"nodeSelector", "tolerations", "priorityClassName", "synchronization"} & other.keys()
    assert {volume["name"] for volume in other["volumes"]} == {"scratch"}


def test_memory_grows_after_a_kill_and_stops_growing() -> None:
    shard = templates(build(CHAIN, PLAIN))["simulate-shard"]
    memory = int(shard["container"]["resources"]["limits"]["memory"].removesuffix("Mi"))
    main = json.loads(shard["podSpecPatch"])["containers"][1]
    for kind in ("requests", "limits"):
        expression = main["resources"][kind]["memory"]
        assert expression == f"{{{{=string({memory} * min(1 + asInt(retries), 2))}}}}Mi"


def test_many_shards_are_one_job_behind_one_node() -> None:
    made = templates(build(WIDE, PLAIN))
    assert "simulate-shard" not in made
    job = json.loads(made["simulate"]["resource"]["manifest"])
    assert job["spec"]["completions"] == 100_000
    assert job["metadata"]["generateName"] == "{{workflow.name}}-simulate-"
    assert made["simulate"]["resource"]["setOwnerReference"] is True
    assert made["simulate"]["resource"]["successCondition"] == "status.succeeded == 100000"
    assert "--job" in made["plan"]["container"]["args"]
    assert made["stop-jobs"]["resource"]["action"] == "delete"


@pytest.mark.parametrize("cluster", [PLAIN, FULL], ids=["plain", "full"])
def test_a_thousand_shards_fit(cluster: Cluster) -> None:
    """The template does not grow with the shards; with nine stages it stays far below Argo's and etcd's limits."""
    names = ["tokens", "cache", "index", "explain", "score", "simulate", "calibrate", "reconstruct", "report"]
    stages = [
        StageShape(name, tuple(names[:number]), 1000, Resources("model", 4, 32, 1)) for number, name in enumerate(names)
    ]
    assert len(to_yaml(build(tuple(stages), cluster))) < 100_000


@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.floats(0.1, 64), st.floats(0.1, 512), st.integers(0, 8)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=25, deadline=None)
def test_any_pipeline_makes_a_sound_workflow(stages: list[tuple[int, float, float, int]]) -> None:
    shapes = tuple(
        StageShape(f"s{i}", tuple(f"s{j}" for j in range(i)), shards, Resources("cpu", cpus, memory, gpus))
        for i, (shards, cpus, memory, gpus) in enumerate(stages)
    )
    workflow = build(shapes, PLAIN)
    test_references_resolve_and_loops_return_nothing(workflow)
    test_every_leaf_has_command_limits_retry_and_a_tagged_image(workflow)
    test_every_container_can_run_under_restricted_pod_security(workflow)
