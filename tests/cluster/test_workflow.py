"""The Argo part: submit, fan-out, retry, `argo retry` after an injected failure, exit hook. Needs a controller."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from cluster_bed import QUICK, ROOT, Bed, kubectl, until

from nlsim.config import load_config
from nlsim.pipeline.run import Run

LONG = ("cache", "score", "simulate")
"""Stages whose pods run long enough to be met at work."""
NOTHING = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "Workflow",
    "metadata": {"name": "is-a-controller-there"},
    "spec": {"entrypoint": "x", "templates": [{"name": "x", "suspend": {"duration": "0"}}]},
}


@pytest.fixture(scope="session")
def argo(bed: Bed, has_argo_crds: bool) -> Bed:
    """The bed, where a workflow controller runs."""
    if not has_argo_crds:
        pytest.skip("the cluster has no Argo definitions")
    kubectl("create", "-n", bed.namespace, "-f", "-", stdin=yaml.safe_dump(NOTHING))
    name = NOTHING["metadata"]["name"]  # type: ignore[index]
    try:
        until("a controller", 15, lambda: workflow(bed, name).get("status", {}).get("phase"))
    except AssertionError:
        pytest.skip("no workflow controller runs on this cluster")
    return bed


def workflow(bed: Bed, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl("get", "workflow", name, "-n", bed.namespace, "-o", "json"))
    return found


def submit(bed: Bed, run: str) -> tuple[str, subprocess.CompletedProcess[str]]:
    done = bed.nlsim(*bed.submit_words(run, "argo"))
    assert done.returncode == 0, done.stderr
    assert f"argo watch -n {bed.namespace}" in done.stdout
    return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("workflow ")), done


def finished(bed: Bed, name: str) -> dict[str, Any]:
    return dict(until(name, 2400, lambda: (s := workflow(bed, name).get("status", {})).get("finishedAt") and s))


def test_a_run_a_lost_pod_and_the_exit_hook(argo: Bed) -> None:
    """A pod is deleted midway: it is retried, everything succeeds, and the hook leaves the status with the run."""
    url = f"s3://{argo.bucket}/workflow"
    name, _ = submit(argo, url)
    second, said = submit(argo, url)
    assert second == name
    assert "is at work on this run already" in said.stdout

    def victim() -> str | None:
        pods = argo.pods(f"workflows.argoproj.io/workflow={name}")
        busy = [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running"]
        return next((pod for pod in busy if any(f"-{stage}-shard-" in pod for stage in LONG)), None)

    pod = until("a pod of a stage that takes a while", 900, victim)
    kubectl("delete", "pod", pod, "-n", argo.namespace, "--grace-period=0", "--force", "--wait=false")
    status = finished(argo, name)
    assert status["phase"] == "Succeeded", status.get("message")
    nodes = [node for node in status["nodes"].values() if node["type"] == "Pod"]
    (lost,) = [node for node in nodes if node["phase"] in {"Error", "Failed"}]
    assert lost["templateName"] in {f"{stage}-shard" for stage in LONG}
    assert f"{lost['displayName'].removesuffix('(0)')}(1)" in {node["displayName"] for node in nodes}
    shards = {n["displayName"].rpartition("(")[0] for n in nodes if n["templateName"] == "simulate-shard"}
    assert shards == {f"simulate({i}:{i})" for i in range(QUICK["simulate.shards"])}
    assert max(len(node["displayName"]) for node in nodes) <= 40
    recorded = json.loads(Run.open(url).files.get("status.json"))
    assert recorded["state"] == "Succeeded"
    assert not any(stage["missing"] for stage in recorded["stages"].values())
    assert Run.open(url).files.info("report/index.html") is not None
    assert len(json.dumps(workflow(argo, name))) < 2**20


@pytest.mark.parametrize("max_pods", [1000, 1], ids=["pods", "jobs"])
def test_retry_after_bad_data(argo: Bed, max_pods: int, tmp_path: Path) -> None:
    """A damaged input fails its stage at once, what needs that is left out, the rest runs, and after repair all of it.

    With a pod for each shard, and with a stage of several shards as one Job behind one node.
    """
    argo = argo.with_settings(tmp_path / "cluster.yaml", max_pods=max_pods)
    source, copy = "workflow", f"damaged-{max_pods}"
    url = f"s3://{argo.bucket}/{copy}"
    s3 = boto3.client("s3")
    finished_run = Run.open(f"s3://{argo.bucket}/{source}")
    keep = ("tokens/", "cache/", "index/", "explain/", "config.yaml", "lineage.json")
    for info in finished_run.files.list(""):
        if info.key.startswith(keep):
            s3.copy({"Bucket": argo.bucket, "Key": f"{source}/{info.key}"}, argo.bucket, f"{copy}/{info.key}")
    record = Run.open(url).artifact("index").records[1]
    victim = next(entry for name, entry in record.objects.items() if name.startswith("csc"))
    place = next(i.key for i in Run.open(url).files.list("index/") if i.key.endswith(victim.key))
    good = Run.open(url).files.get(place)
    s3.put_object(Bucket=argo.bucket, Key=f"{copy}/{place}", Body=b"\0" * len(good))

    name, _ = submit(argo, url)
    status = finished(argo, name)
    assert status["phase"] == "Failed"
    bad = [node for node in status["nodes"].values() if node["type"] == "Pod" and node["phase"] == "Failed"]
    assert bad
    assert {node["templateName"] for node in bad} <= {"score-shard", "score"}
    assert all(node["displayName"].endswith("(0)") for node in bad), "bad data is not tried again"
    if max_pods > 1:
        assert all("(exit code 3)" in node["message"] for node in bad)
    recorded = json.loads(Run.open(url).files.get("status.json"))
    assert recorded["state"] == "Failed"
    missing = {stage: of["missing"] for stage, of in recorded["stages"].items()}
    assert missing["score"] > 0
    assert (missing["simulate"], missing["calibrate"], missing["report"]) == (0, 1, 1)
    jobs = ("get", "jobs", "-n", argo.namespace, "-l", f"nlsim/workflow={name}", "-o", "name")
    assert kubectl(*jobs) == "", "the exit hook leaves no Job behind"

    followed = argo.nlsim(*argo.submit_words(url, "argo"), "--follow")
    assert followed.returncode == 4  # still damaged; the caller's script sees it
    assert "argo retry" in followed.stderr

    s3.put_object(Bucket=argo.bucket, Key=f"{copy}/{place}", Body=good)
    if shutil.which("argo") is None:
        assert argo.nlsim(*argo.submit_words(url, "argo"), "--follow").returncode == 0
        return
    subprocess.run(["argo", "retry", name, "-n", argo.namespace], check=True, capture_output=True)
    until("the retry", 60, lambda: not workflow(argo, name)["status"].get("finishedAt"))
    assert finished(argo, name)["phase"] == "Succeeded"
    assert Run.open(url).files.info("report/index.html") is not None


def test_many_shards_as_one_job(argo: Bed, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Above `max_pods` a stage is one node with an Indexed Job behind it; a complete stage makes no Job at all."""
    few = argo.with_settings(tmp_path_factory.mktemp("few") / "cluster.yaml", max_pods=2)
    url = f"s3://{argo.bucket}/as-jobs"
    config = load_config(ROOT / "configs/tiny.yaml", [f"{key}={value}" for key, value in QUICK.items()]).config
    name, _ = submit(few, url)
    status = finished(few, name)
    assert status["phase"] == "Succeeded", status.get("message")
    wide = [stage.name for stage in Run.open(url).pipeline.stages if stage.shards(config) > 2]
    nodes = [node for node in status["nodes"].values() if node["type"] == "Pod" and node["templateName"] in wide]
    assert sorted(node["templateName"] for node in nodes) == sorted(wide)
    jobs = json.loads(kubectl("get", "jobs", "-n", few.namespace, "-l", f"nlsim/workflow={name}", "-o", "json"))[
        "items"
    ]
    assert len(jobs) == len(wide)
    assert all(job["metadata"]["ownerReferences"][0]["name"] == name for job in jobs)
    again, _ = submit(few, url)
    assert finished(few, again)["phase"] == "Succeeded"
    assert "[]" not in kubectl("get", "jobs", "-n", few.namespace, "-l", f"nlsim/workflow={again}", "-o", "name")


def test_quota(argo: Bed) -> None:
    """`--follow` says what keeps the workflow's pods out."""
    with argo.tight_quota():
        done = argo.nlsim(*argo.submit_words(f"s3://{argo.bucket}/quota", "argo"), "--follow")
    assert done.returncode == 75, done.stderr
    assert "cannot create pods: " in done.stderr
    assert "exceeded quota: tight" in done.stderr


def test_a_bucket_that_pods_do_not_reach(argo: Bed, tmp_path: Path) -> None:
    """The reason that a pod gives is in the line that `--follow` ends with."""
    there = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    name = {"name": "astray", "namespace": argo.namespace}
    kubectl(
        "apply",
        "-f",
        "-",
        stdin=yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": there}),
    )
    astray = argo.with_settings(tmp_path / "cluster.yaml", environment="astray", retries=0)
    done = argo.nlsim(*astray.submit_words(f"s3://{argo.bucket}/astray", "argo"), "--follow")
    assert done.returncode == 4, done.stderr
    assert "127.0.0.1:9" in done.stderr
