"""A stage as one Indexed Job: one pod per shard, retried by exit code, whatever the number of shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from argo import pod
from argo.names import label_value

if TYPE_CHECKING:
    from argo.cluster import Cluster
    from argo.pod import Json
    from nlsim.pipeline.stage import Resources

MANAGER = "nlsim"
MAX_PARALLEL_OF_MANY = 10_000
"""Kubernetes' limit on parallelism and failed indices of a Job with more than 100,000 completions."""


def labels(run_name: str, stage: str) -> dict[str, str]:
    """Labels of a stage's Job and pods."""
    return {
        "app.kubernetes.io/name": "nlsim",
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/component": stage,
        "nlsim/run": label_value(run_name),
    }


def failure_policy() -> Json:
    """Bad input fails its index at once; a drained or preempted pod does not count; anything else counts as a try."""
    return {
        "rules": [
            {
                "action": "FailIndex",
                "onExitCodes": {"containerName": "main", "operator": "In", "values": list(pod.FINAL_EXIT_CODES)},
            },
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
    }


def job_spec(cluster: Cluster, resources: Resources, args: list[str], shards: int, run_labels: dict[str, str]) -> Json:
    """The Job's spec. `args` leave out the shard index: the Job gives it as JOB_COMPLETION_INDEX."""
    return {
        "completionMode": "Indexed",
        "completions": shards,
        "parallelism": min(shards, cluster.parallelism, MAX_PARALLEL_OF_MANY),
        "backoffLimitPerIndex": cluster.retries,
        "maxFailedIndexes": 0 if cluster.on_failure == "stop" else min(shards, MAX_PARALLEL_OF_MANY),
        "podFailurePolicy": failure_policy(),
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": int(cluster.keep_days * 86_400),
        "template": {"metadata": {"labels": run_labels}, "spec": pod.pod_spec(cluster, resources, args)},
    }


def stage_job(
    cluster: Cluster, resources: Resources, args: list[str], shards: int, name: str, run_name: str, stage: str
) -> Json:
    """The Job called `name` that runs every shard of `stage`."""
    marks = labels(run_name, stage)
    queue = {"kueue.x-k8s.io/queue-name": cluster.queue} if cluster.queue is not None else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": cluster.namespace, "labels": marks | queue},
        "spec": job_spec(cluster, resources, args, shards, marks),
    }
