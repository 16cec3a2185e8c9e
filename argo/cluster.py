"""Settings of a cluster: where images are, what pods are allowed and given. One YAML file per cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from nlsim import __version__
from nlsim.base import Section
from nlsim.errors import UsageError
from nlsim.foreign import yaml_of


class Images(Section):
    """The stage images."""

    cpu: str = Field(f"nlsim-cpu:{__version__}", description="Image without torch.")
    model: str = Field(f"nlsim-model:{__version__}", description="Image with torch.")
    vllm: str = Field(f"nlsim-vllm:{__version__}", description="Image with vLLM.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = Field((), description="Secrets for a private registry.")


class Toleration(Section):
    """A taint that pods with GPUs put up with."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = "NoSchedule"


class Gpu(Section):
    """How pods get GPUs."""

    resource: str = Field("nvidia.com/gpu", description="Name of the extended resource.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels of the nodes with GPUs.")
    tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu"),)
    priority_class: str | None = Field(None, description="PriorityClass of pods with GPUs.")
    runtime_class: str | None = Field(None, description="RuntimeClass of pods with GPUs, e.g. nvidia.")
    semaphore: str | None = Field(
        None, description="ConfigMap whose key `gpu` caps pods with GPUs over all workflows of the namespace."
    )
    shared_memory_gb: float = Field(8, gt=0, description="Size of /dev/shm; it counts against the memory limit.")


class Cluster(Section):
    """A cluster as nlsim uses it."""

    namespace: str = Field("nlsim", description="Namespace of everything.")
    images: Images = Field(default_factory=Images)
    gpu: Gpu = Field(default_factory=Gpu)
    stage_account: str = Field(
        "nlsim-stage", description="Service account of stage pods: no rights, perhaps a cloud role."
    )
    executor_account: str = Field("nlsim-executor", description="Service account of Argo's executor.")
    jobs_account: str = Field("nlsim-jobs", description="Service account that may create Indexed Jobs in a workflow.")
    environment: str = Field("nlsim-environment", description="ConfigMap with environment variables of every stage.")
    secret: str = Field(
        "nlsim-store", description="Secret with the store's credentials (AWS_…), optional on cloud roles."
    )
    workload_identity: bool = Field(False, description="Pods sign in to the store by their service account; no secret.")
    model_cache: str | None = Field(None, description="PersistentVolumeClaim mounted read-only at /models (HF_HOME).")
    max_pods: int = Field(1000, ge=1, description="A stage with more shards runs as one Indexed Job.")
    parallelism: int = Field(64, ge=1, description="Pods of one run at a time.")
    retries: int = Field(5, ge=0, description="Further attempts of a shard that failed for a passing reason.")
    spread_retries: bool = Field(False, description="Retry on another node (needs more than one).")
    shard_hours: float = Field(24, gt=0, description="A shard that takes longer is stopped; it resumes when retried.")
    cpu_requests: float = Field(
        1.0, gt=0, le=1, description="Share of its CPUs that a pod requests; the rest is shared."
    )
    grace_seconds: int = Field(60, ge=1, description="Time between SIGTERM and SIGKILL.")
    planning_memory_gb: float = Field(1, gt=0, description="Memory of the steps that plan, and note the status.")
    scratch_gb: float = Field(20, gt=0, description="Size limit of /tmp.")
    keep_days: float = Field(7, gt=0, description="How long finished workflows and Jobs stay; outputs stay for good.")
    queue: str | None = Field(None, description="Kueue LocalQueue that Indexed Jobs wait in.")
    on_failure: Literal["finish", "stop"] = Field(
        "finish",
        description="After a shard failed for good: `finish` still runs the other shards and every stage that does not "
        "need the failed one; `stop` starts nothing more.",
    )


def load_cluster(path: str | Path | None) -> Cluster:
    """Read a cluster's settings; the defaults without a path. Raises UsageError saying which setting is wrong."""
    if path is None:
        return Cluster()
    try:
        data = yaml_of(Path(path).read_bytes()) or {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the cluster's settings {path}", " ".join(str(error).split())) from error
    try:
        return Cluster.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where or 'settings'}: {first['msg']}", "see docs/cluster.md") from error
