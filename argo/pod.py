"""The pod that runs one shard, as plain Kubernetes objects: the same in a workflow and in an Indexed Job."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from nlsim.pipeline.stage import Resources

if TYPE_CHECKING:
    from argo.cluster import Cluster

USER = 10001
"""Numeric user and group of the images: `runAsNonRoot` needs a number."""

RETRIED_EXIT_CODES = (75, 137, 143)
"""Try again later, killed (out of memory, or the node's end), terminated."""
FINAL_EXIT_CODES = (2, 3, 4, 78)
"""Wrong use, bad data, missing input: the same call fails the same way."""

Json = dict[str, Any]


def planning(cluster: Cluster) -> Resources:
    """What planning, and noting a run's status, need."""
    return Resources("cpu", 1.0, cluster.planning_memory_gb, 0)


MEMORY_STEP_MI = 64
"""What pods ask for is a multiple of this, so that an estimate that moves a little moves no manifest."""


def memory_mi(resources: Resources) -> int:
    """Memory in mebibytes, rounded up to a whole step."""
    return math.ceil(resources.memory_gb * 1e9 / 2**20 / MEMORY_STEP_MI) * MEMORY_STEP_MI


def quantities(cluster: Cluster, resources: Resources) -> Json:
    """Requests and limits. Memory is requested whole: a node that promised it twice would kill shards."""
    memory = {"memory": f"{memory_mi(resources)}Mi"}
    if resources.gpus:
        memory[cluster.gpu.resource] = str(resources.gpus)
    return {
        "requests": {"cpu": cpu_quantity(resources.cpus * cluster.cpu_requests)} | memory,
        "limits": {"cpu": cpu_quantity(resources.cpus)} | memory,
    }


def cpu_quantity(cpus: float) -> str:
    """CPUs as Kubernetes writes them: whole, or in thousandths, rounded up."""
    thousandths = math.ceil(cpus * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def image(cluster: Cluster, resources: Resources) -> str:
    """The image of a stage."""
    return str(getattr(cluster.images, resources.image))


def environment(cluster: Cluster, resources: Resources) -> list[Json]:
    """Variables of the container: threads as many as CPUs, caches in writable places."""
    threads = str(max(int(resources.cpus), 1))
    values = {
        "NLSIM_LOG": "json",
        "NLSIM_TERMINATION_LOG": "/dev/termination-log",
        "OMP_NUM_THREADS": threads,
        "TOKENIZERS_PARALLELISM": "false",
    }
    if cluster.model_cache is not None:
        values |= {"HF_HOME": "/models", "HF_HUB_OFFLINE": "1"}
    return [{"name": name, "value": value} for name, value in values.items()]


def environment_sources(cluster: Cluster) -> list[Json]:
    """The ConfigMap and Secret whose keys become variables. Optional: a cloud role may replace the Secret."""
    return [
        {"configMapRef": {"name": cluster.environment, "optional": True}},
        {"secretRef": {"name": cluster.secret, "optional": cluster.workload_identity}},
    ]


def volumes(cluster: Cluster, resources: Resources) -> list[Json]:
    """The writable scratch folder; shared memory and the model cache where models run."""
    found: list[Json] = [{"name": "scratch", "emptyDir": {"sizeLimit": gibibytes(cluster.scratch_gb)}}]
    if resources.gpus:
        limit = gibibytes(cluster.gpu.shared_memory_gb)
        found.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": limit}})
    if cluster.model_cache is not None and resources.image != "cpu":
        claim = {"claimName": cluster.model_cache, "readOnly": True}
        found.append({"name": "models", "persistentVolumeClaim": claim})
    return found


def mounts(cluster: Cluster, resources: Resources) -> list[Json]:
    """Where `volumes` appear."""
    places = {"scratch": "/tmp", "shared-memory": "/dev/shm", "models": "/models"}  # noqa: S108 - in the container
    return [
        {"name": volume["name"], "mountPath": places[volume["name"]]}
        | ({"readOnly": True} if volume["name"] == "models" else {})
        for volume in volumes(cluster, resources)
    ]


def gibibytes(value: float) -> str:
    """A quantity of memory or disk."""
    return f"{math.ceil(value * 1024)}Mi"


def pod_security() -> Json:
    """What the Pod Security level `restricted` wants of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(read_only: bool = True) -> Json:
    """What `restricted` wants of a container, and a read-only root file system."""
    security: Json = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return security | ({"readOnlyRootFilesystem": True} if read_only else {})


def placement(cluster: Cluster, resources: Resources) -> Json:
    """Node selector, tolerations, priority and runtime of pods with GPUs; nothing for the others."""
    if not resources.gpus:
        return {}
    gpu = cluster.gpu
    found: Json = {"tolerations": [toleration.model_dump(exclude_none=True) for toleration in gpu.tolerations]}
    if gpu.node_selector:
        found["nodeSelector"] = dict(gpu.node_selector)
    if gpu.priority_class is not None:
        found["priorityClassName"] = gpu.priority_class
    if gpu.runtime_class is not None:
        found["runtimeClassName"] = gpu.runtime_class
    return {key: value for key, value in found.items() if value}


def stage_container(cluster: Cluster, resources: Resources, args: list[str]) -> Json:
    """The container `main` that runs `nlsim ARGS`."""
    return {
        "name": "main",
        "image": image(cluster, resources),
        "imagePullPolicy": cluster.images.pull_policy,
        "command": ["nlsim"],
        "args": args,
        "env": environment(cluster, resources),
        "envFrom": environment_sources(cluster),
        "resources": quantities(cluster, resources),
        "volumeMounts": mounts(cluster, resources),
        "securityContext": container_security(),
    }


def pod_spec(cluster: Cluster, resources: Resources, args: list[str]) -> Json:
    """A whole pod for a Job, without any token of the API server."""
    container = stage_container(cluster, resources, args) | {"terminationMessagePolicy": "FallbackToLogsOnError"}
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": cluster.stage_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": cluster.grace_seconds,
        "activeDeadlineSeconds": int(cluster.shard_hours * 3600),
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": volumes(cluster, resources),
    }
    if cluster.images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.images.pull_secrets]
    return spec | placement(cluster, resources)


def compact(value: Json) -> str:
    """JSON on one line, for patches inside YAML."""
    return json.dumps(value, separators=(",", ":"))
