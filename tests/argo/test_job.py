"""Indexed Jobs."""

import pytest
from argo_shapes import FULL, PLAIN

from argo import pod
from argo.job import stage_job
from argo.names import dns_name, label_value
from nlsim.pipeline.stage import Resources

GPU = Resources("model", 1.5, 32, 2)


def test_exit_codes_are_told_apart() -> None:
    """Bad input is final for its index, a drained pod does not count, every other failure is one try."""
    spec = stage_job(PLAIN, GPU, ["stage", "simulate"], 8, "name", "run", "simulate")["spec"]
    final, drained = spec["podFailurePolicy"]["rules"]
    assert final["action"] == "FailIndex"
    assert final["onExitCodes"]["values"] == [2, 3, 4, 78]
    assert drained == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert spec["backoffLimitPerIndex"] == PLAIN.retries
    assert not set(pod.FINAL_EXIT_CODES) & set(pod.RETRIED_EXIT_CODES)


def test_other_shards_go_on_unless_told_to_stop() -> None:
    assert stage_job(PLAIN, GPU, [], 8, "n", "r", "s")["spec"]["maxFailedIndexes"] == 8
    assert stage_job(FULL, GPU, [], 8, "n", "r", "s")["spec"]["maxFailedIndexes"] == 0


def test_cpus_may_be_shared_and_threads_stay_the_same() -> None:
    """The number of threads is part of what makes results equal; what is requested of the scheduler is not."""
    (main,) = stage_job(PLAIN.model_copy(update={"cpu_requests": 0.25}), GPU, [], 1, "n", "r", "s")["spec"]["template"][
        "spec"
    ]["containers"]
    assert main["resources"]["requests"]["cpu"] == "375m"
    assert main["resources"]["limits"]["cpu"] == "1500m"
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in main["env"]


def test_limits_of_kubernetes_for_many_shards() -> None:
    """Above 100,000 completions, parallelism and failed indices may be at most 10,000."""
    spec = stage_job(PLAIN.model_copy(update={"parallelism": 50_000}), GPU, [], 1_000_000, "n", "r", "s")["spec"]
    assert spec["completions"] == 1_000_000
    assert spec["parallelism"] == 10_000
    assert spec["maxFailedIndexes"] == 10_000


def test_pods_of_jobs_are_as_restricted_as_those_of_workflows() -> None:
    job = stage_job(FULL, GPU, ["stage", "simulate"], 8, "name", "run", "simulate")
    spec = job["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["runtimeClassName"] == "nvidia"
    (main,) = spec["containers"]
    assert main["securityContext"]["readOnlyRootFilesystem"] is True
    assert main["resources"]["limits"] == {"cpu": "1500m", "memory": "30528Mi", "nvidia.com/gpu": "2"}
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "nlsim"
    assert "--shard-index" not in main["args"]  # the Job gives it as JOB_COMPLETION_INDEX


@pytest.mark.parametrize(
    ("text", "name"), [("Tiny_Run.v2", "tiny-run-v2"), ("--", "run"), ("x" * 99, "x" * 40), ("a" * 39 + "-b", "a" * 39)]
)
def test_dns_names(text: str, name: str) -> None:
    assert dns_name(text) == name


def test_label_values() -> None:
    assert label_value("s3://bucket/ü run") == "s3---bucket---run"
    assert len(label_value("x" * 200)) == 63
    assert label_value("_a_") == "a"
