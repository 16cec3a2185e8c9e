"""The Job engine against an API that carries out Jobs at once, in this process."""

from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import V1Job, V1JobCondition, V1JobSpec, V1JobStatus, V1ObjectMeta, V1PodTemplateSpec
from kubernetes.client.exceptions import ApiException

from argo.api import Api
from argo.cluster import Cluster
from argo.jobs import Controller
from nlsim.config import Config
from nlsim.errors import IncompleteError, NlsimError
from nlsim.pipeline.execute import execute_shard
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run
from nlsim.pipeline.stage import Resources
from nlsim.progress import SilentReporter


class InstantJobs:
    """A `BatchV1Api` whose Jobs are done when they are created: each pod is a call of `execute_shard`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.jobs: dict[str, V1Job] = {}
        self.created: list[tuple[str, int]] = []

    def create_namespaced_job(self, namespace: str, body: dict[str, Any], **_options: object) -> None:
        name, spec = body["metadata"]["name"], body["spec"]
        args = spec["template"]["spec"]["containers"][0]["args"]
        failed = []
        self.created.append((args[1] if args[0] == "stage" else args[0], spec["completions"]))
        if args[0] == "stage":
            for index in range(spec["completions"]):
                try:
                    execute_shard(Run.open(self.run.url), args[1], index, SilentReporter())
                except (NlsimError, RuntimeError):
                    failed.append(index)
        status = V1JobStatus(
            succeeded=spec["completions"] - len(failed),
            failed_indexes=",".join(map(str, failed)),
            conditions=[V1JobCondition(type="Failed" if failed else "Complete", status="True")],
        )
        job_spec = V1JobSpec(completions=spec["completions"], template=V1PodTemplateSpec())
        self.jobs[name] = V1Job(metadata=V1ObjectMeta(name=name), spec=job_spec, status=status)

    def read_namespaced_job(self, name: str, namespace: str) -> V1Job:
        if name not in self.jobs:
            raise ApiException(status=404, reason="Not Found")
        return self.jobs[name]

    def delete_namespaced_job(self, name: str, namespace: str, **_options: object) -> None:
        del self.jobs[name]


class NoPods:
    """A `CoreV1Api` without pods."""

    def list_namespaced_pod(self, *_args: object, **_options: object) -> Any:
        return type("List", (), {"items": []})


@pytest.fixture
def make(
    toy_pipeline: Pipeline, config: Config, store_url: str
) -> Callable[..., tuple[Controller, InstantJobs, list[str]]]:
    def build(**settings: Any) -> tuple[Controller, InstantJobs, list[str]]:
        run = Run.create(store_url, config)
        jobs, said = InstantJobs(run), list[str]()
        api = Api("test", "nlsim", NoPods(), jobs, None)  # type: ignore[arg-type]
        return Controller(api, Cluster(**settings), run, said.append, interval=0.0), jobs, said

    return build


def test_every_stage_is_one_job_in_order(make: Callable[..., Any]) -> None:
    controller, jobs, said = make()
    controller.carry_out()
    assert jobs.created == [("plan", 1), ("numbers", 4), ("squares", 4), ("total", 1)]
    assert controller.run.files.get("total.json")
    assert any("4/4 shards" in line for line in said)


def test_submitting_again_does_only_the_rest(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    controller, jobs, _ = make()
    monkeypatch.setenv("TOY_FAIL", "2")
    with pytest.raises(IncompleteError, match=r"squares: shards 2 failed"):
        controller.carry_out()
    assert jobs.created == [("plan", 1), ("numbers", 4), ("squares", 4)]
    assert Run.open(controller.run.url).artifact("squares").missing() == [2]
    monkeypatch.delenv("TOY_FAIL")
    again, jobs, said = make()
    again.carry_out()
    assert jobs.created == [("plan", 1), ("squares", 4), ("total", 1)]
    assert "numbers: 4 shards are committed already" in said


def test_a_finished_job_of_the_same_name_is_replaced(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    controller, jobs, _ = make()
    monkeypatch.setenv("TOY_FAIL", "0")
    with pytest.raises(IncompleteError):
        controller.carry_out()
    monkeypatch.delenv("TOY_FAIL")
    controller.carry_out()
    assert [stage for stage, _ in jobs.created] == ["plan", "numbers", "squares", "plan", "squares", "total"]


def test_a_running_job_is_found_again(make: Callable[..., Any]) -> None:
    """A controller that was interrupted leaves its Jobs running; the next one creates no second pod of any shard."""
    controller, jobs, _ = make()
    words = ("numbers", Resources(), ["stage", "numbers"], 4)
    first = controller.job(*words)
    jobs.jobs[first].status.conditions = None
    assert controller.job(*words) == first
    assert len(jobs.created) == 1
