"""Carry out a run as Indexed Jobs, one per stage, on a cluster without Argo. The caller's process is the controller.

It can be interrupted at any moment: the Jobs go on, and the next call finds them again by their names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from argo.job import stage_job
from argo.names import dns_name
from argo.pod import planning
from argo.trouble import failure_of, troubles
from nlsim.base import digest
from nlsim.errors import IncompleteError, TransientError

if TYPE_CHECKING:
    from argo.api import Api
    from argo.cluster import Cluster
    from argo.pod import Json
    from nlsim.pipeline.run import Run
    from nlsim.pipeline.stage import Resources


class Progress(NamedTuple):
    """How far a Job is."""

    succeeded: int
    active: int
    failed_indices: str
    """Kubernetes' notation, e.g. `1,3-5`."""
    state: str
    """`Running`, `Suspended`, `Complete` or `Failed`."""


@dataclass
class Controller:
    """Creates and watches the Jobs of one run."""

    api: Api
    cluster: Cluster
    run: Run
    echo: Callable[[str], None]
    pending_minutes: float = 30.0
    interval: float = 1.0
    shown: dict[str, Progress] = field(default_factory=dict)

    def carry_out(self) -> None:
        """Plan, then run every stage as soon as its inputs are complete.

        Raises IncompleteError when shards failed for good (after everything that does not need them is done, unless the
        cluster's `on_failure` is `stop`), TransientError when a pod cannot start.
        """
        self.finish("plan", self.job("plan", planning(self.cluster), ["plan", "--run", self.run.url], 1))
        waiting = list(self.run.pipeline.stages)
        running: dict[str, str] = {}
        complete: set[str] = set()
        failed: dict[str, str] = {}
        while waiting or running:
            for stage in [stage for stage in waiting if complete.issuperset(stage.inputs)]:
                if failed and self.cluster.on_failure == "stop":
                    break
                waiting.remove(stage)
                artifact = self.run.artifact(stage.name)
                artifact.refresh()
                if artifact.complete:
                    self.echo(f"{stage.name}: {artifact.shards} shards are committed already")
                    complete.add(stage.name)
                    continue
                args = ["stage", stage.name, "--run", self.run.url]
                running[stage.name] = self.job(
                    stage.name, stage.resources(self.run.config), args, artifact.shards, artifact.fingerprint
                )
            for name, job in list(running.items()):
                progress = self._watch(name, job)
                if progress.state not in {"Complete", "Failed"}:
                    continue
                del running[name]
                if progress.state == "Complete":
                    complete.add(name)
                else:
                    failed[name] = self._why(name, job, progress)
                    self.echo(failed[name])
            if not running and not any(complete.issuperset(stage.inputs) for stage in waiting):
                break
            if running:
                time.sleep(self.interval)
        if failed:
            raise IncompleteError("; ".join(failed.values()), "submit again after putting it right: only the rest runs")

    def job(self, stage: str, resources: Resources, args: list[str], shards: int, fingerprint: str = "") -> str:
        """Name of the Job of a stage: one that is still running, or a new one."""
        name = f"{dns_name(self.run.config.name, 30)}-{stage}-{digest([self.run.url, fingerprint])[:8]}"
        body = stage_job(self.cluster, resources, args, shards, name, self.run.config.name, stage)
        there = self._read(name)
        if there is not None and progress_of(there).state in {"Complete", "Failed"}:
            self.api.call(
                f"delete job {name}", self.api.batch.delete_namespaced_job, name, self.api.namespace,
                propagation_policy="Background",
            )  # fmt: skip
            while self._read(name) is not None:
                time.sleep(0.2)
            there = None
        if there is None:
            self._create(body)
        return name

    def _create(self, body: Json) -> None:
        name = body["metadata"]["name"]
        self.api.call(
            f"create job {name}",
            self.api.batch.create_namespaced_job, self.api.namespace, body, field_validation="Strict",
        )  # fmt: skip

    def _read(self, name: str) -> Any | None:
        return self.api.find(f"read job {name}", self.api.batch.read_namespaced_job, name, self.api.namespace)

    def finish(self, stage: str, job: str) -> None:
        """Wait for a Job that everything needs."""
        while (progress := self._watch(stage, job)).state != "Complete":
            if progress.state == "Failed":
                raise IncompleteError(self._why(stage, job, progress), "put that right and submit again")
            time.sleep(self.interval)

    def _watch(self, stage: str, name: str) -> Progress:
        """Look at a Job once; print what changed; raise when its pods cannot start."""
        job = self._read(name)
        if job is None:
            raise IncompleteError(f"job {name} was deleted", "submit again to carry on")
        progress = progress_of(job)
        if progress != self.shown.get(name):
            self.shown[name] = progress
            parts = [f"{progress.succeeded}/{job.spec.completions} shards"]
            parts += [f"{progress.active} running"] if progress.active else []
            parts += [f"failed: {progress.failed_indices}"] if progress.failed_indices else []
            parts += ["waiting in the queue"] if progress.state == "Suspended" else []
            self.echo(f"{time.strftime('%H:%M:%S')}  {stage:<12} {', '.join(parts)}")
        if progress.state == "Running":
            self._raise_trouble(name, progress)
        return progress

    def _raise_trouble(self, name: str, progress: Progress) -> None:
        for trouble in troubles(self._pods(name, "status.phase=Pending"), self.pending_minutes):
            if trouble.final:
                raise TransientError(
                    f"pod {trouble.pod} cannot start: {trouble.reason}",
                    f"put that right and submit again; `kubectl delete job {name}` gives up",
                )
        if not progress.active:
            for message in self._refusals(name):
                raise TransientError(f"job {name} cannot create pods: {message}", "put that right and submit again")

    def _pods(self, job: str, field_selector: str) -> list[Any]:
        options = {"label_selector": f"batch.kubernetes.io/job-name={job}", "field_selector": field_selector}
        return list(
            self.api.call(
                "list pods", self.api.core.list_namespaced_pod, self.api.namespace, limit=200, **options
            ).items
        )

    def _refusals(self, job: str) -> Iterator[str]:
        """Why the Job controller could not create pods: a quota, a missing service account, Pod Security."""
        selector = f"involvedObject.name={job},involvedObject.kind=Job,reason=FailedCreate"
        events = self.api.call(
            "list events", self.api.core.list_namespaced_event, self.api.namespace, field_selector=selector
        ).items
        yield from (event.message for event in events)

    def _why(self, stage: str, job: str, progress: Progress) -> str:
        """One line about a Job that failed: which shards, and how the last pod ended."""
        pods = self._pods(job, "status.phase=Failed")
        endings = [ending for pod in pods if (ending := failure_of(pod)) is not None]
        which = f"shards {progress.failed_indices}" if progress.failed_indices else "its job"
        return f"{stage}: {which} failed" + (f" ({endings[-1]})" if endings else "")


def progress_of(job: Any) -> Progress:
    """The state of a V1Job."""
    status = job.status
    true = {condition.type for condition in status.conditions or () if condition.status == "True"}
    state = next((name for name in ("Complete", "Failed", "Suspended") if name in true), "Running")
    return Progress(status.succeeded or 0, status.active or 0, status.failed_indexes or "", state)
