"""Pods that do not start, said in one line each."""

import datetime

import pytest
from kubernetes.client import (
    V1ContainerState,
    V1ContainerStateTerminated,
    V1ContainerStateWaiting,
    V1ContainerStatus,
    V1ObjectMeta,
    V1Pod,
    V1PodCondition,
    V1PodStatus,
)

from argo.trouble import failure_of, troubles

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def pod(phase: str = "Pending", **status: object) -> V1Pod:
    return V1Pod(metadata=V1ObjectMeta(name="p", creation_timestamp=START), status=V1PodStatus(phase=phase, **status))


def waiting(reason: str, message: str = "") -> V1Pod:
    state = V1ContainerState(waiting=V1ContainerStateWaiting(reason=reason, message=message))
    status = V1ContainerStatus(name="main", image="img:1", image_id="", ready=False, restart_count=0, state=state)
    return pod(container_statuses=[status])


def ended(code: int, reason: str, message: str | None) -> V1Pod:
    state = V1ContainerState(terminated=V1ContainerStateTerminated(exit_code=code, reason=reason, message=message))
    status = V1ContainerStatus(name="main", image="i", image_id="", ready=False, restart_count=0, state=state)
    return pod("Failed", container_statuses=[status])


def after(minutes: float) -> datetime.datetime:
    return START + datetime.timedelta(minutes=minutes)


def test_a_gpu_that_no_node_has_gives_the_schedulers_message_after_the_timeout() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    stuck = pod(
        conditions=[V1PodCondition(type="PodScheduled", status="False", reason="Unschedulable", message=message)]
    )
    (early,) = troubles([stuck], pending_minutes=30, now=after(29))
    (late,) = troubles([stuck], pending_minutes=30, now=after(31))
    assert not early.final
    assert late.final
    assert message in late.reason


@pytest.mark.parametrize("reason", ["ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"])
def test_what_never_passes_is_final_at_once(reason: str) -> None:
    (found,) = troubles([waiting(reason, 'secret "nlsim-store" not found')], pending_minutes=30, now=after(0.1))
    assert found.final
    assert 'secret "nlsim-store" not found' in found.reason


def test_a_missing_image_is_given_some_minutes() -> None:
    pulled = waiting("ImagePullBackOff", "manifest unknown")
    assert not troubles([pulled], 30, after(1))[0].final
    assert troubles([pulled], 30, after(4))[0].final
    assert "img:1" in troubles([pulled], 30, after(4))[0].reason


def test_pods_that_are_merely_slow_or_at_work_are_no_trouble() -> None:
    assert troubles([waiting("ContainerCreating"), pod("Running"), pod()], 30, after(60)) == []


def test_how_a_pod_ended() -> None:
    assert failure_of(ended(3, "Error", "…\nnlsim: tokens is damaged: recompute it\n")) == (
        "exit code 3: nlsim: tokens is damaged: recompute it"
    )
    assert failure_of(ended(137, "OOMKilled", None)) == "exit code 137 (OOMKilled)"
    assert failure_of(pod("Running")) is None
    assert (
        failure_of(V1Pod(metadata=V1ObjectMeta(name="p"), status=V1PodStatus(phase="Failed", reason="Evicted")))
        == "Evicted"
    )
