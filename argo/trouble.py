"""Why pods do not start, in the words of whoever refuses."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, NamedTuple

HOPELESS = {"ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"}
"""Reasons of a waiting container that do not pass by themselves."""
PULLING = {"ErrImagePull", "ImagePullBackOff"}
"""Reasons that may pass: a registry can be slow."""
PULL_MINUTES = 3.0


class Trouble(NamedTuple):
    """A pod that does not start."""

    pod: str
    reason: str
    final: bool
    """Waiting longer is no use."""


def troubles(pods: Iterable[Any], pending_minutes: float, now: datetime.datetime | None = None) -> list[Trouble]:
    """What keeps `pods` (kubernetes V1Pod) from starting; `final` after a while, or at once where it is clear."""
    moment = now or datetime.datetime.now(datetime.UTC)
    return [found for pod in pods if (found := _trouble(pod, pending_minutes, moment)) is not None]


def _trouble(pod: Any, pending_minutes: float, now: datetime.datetime) -> Trouble | None:
    name = pod.metadata.name
    if pod.status is None or pod.status.phase != "Pending":
        return None
    minutes = (now - pod.metadata.creation_timestamp).total_seconds() / 60
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            reason = f"no node takes it: {condition.message or condition.reason}"
            return Trouble(name, reason, minutes > pending_minutes)
    for container in [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]:
        waiting = container.state.waiting if container.state else None
        if waiting is None:
            continue
        if waiting.reason in HOPELESS:
            return Trouble(name, f"{waiting.reason}: {waiting.message or container.image}", True)
        if waiting.reason in PULLING:
            text = f"image {container.image}: {waiting.message or waiting.reason}"
            return Trouble(name, text, minutes > PULL_MINUTES)
    return None


def failure_of(pod: Any) -> str | None:
    """How the main container of a failed pod ended, with the last line it wrote; None when it did not fail."""
    if pod.status is None or pod.status.phase != "Failed":
        return None
    for container in pod.status.container_statuses or ():
        ended = container.state.terminated if container.state else None
        if container.name == "main" and ended is not None:
            lines = [line for line in (ended.message or "").strip().splitlines() if line.strip()]
            said = f": {lines[-1].strip()[:300]}" if lines else ""
            why = "" if ended.reason in (None, "Error") else f" ({ended.reason})"
            return f"exit code {ended.exit_code}{why}{said}"
    return str(pod.status.message or pod.status.reason or "the pod failed")
