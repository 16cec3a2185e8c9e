"""The tiny article pipeline as real pods: equal to the local run byte for byte, whatever is killed on the way."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster_bed import DOCKER, ROOT, TAG, Bed, Contents, contents, kubectl, until

from nlsim.pipeline.run import Run


@pytest.fixture(scope="session")
def on_cluster(bed: Bed) -> str:
    """The run as Indexed Jobs. A pod and then the submitting process are killed midway; submitting again resumes."""
    url = f"s3://{bed.bucket}/tiny"
    words = [sys.executable, "-m", "nlsim.cli.main", *bed.submit_words(url, "job")]
    first = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def running(stage: str) -> list[dict[str, Any]]:
        assert first.poll() is None, first.communicate()[0]
        return [
            pod
            for pod in bed.pods(f"app.kubernetes.io/component={stage}")
            if pod["status"]["phase"] == "Running" and pod["status"]["containerStatuses"][0]["state"].get("running")
        ]

    victim = until("a pod of cache", 900, lambda: running("cache"))[0]["metadata"]["name"]
    kubectl("delete", "pod", victim, "-n", bed.namespace, "--grace-period=0", "--force", "--wait=false")
    until("a pod of reconstruct or simulate", 1800, lambda: running("simulate") + running("reconstruct"))
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = bed.nlsim(*bed.submit_words(url, "job"))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "are committed already" in second.stdout
    return url


def test_equal_to_the_local_run(local: Contents, on_cluster: str) -> None:
    remote = contents(on_cluster)
    assert remote.keys() == local.keys()
    assert [key for key in local if remote[key] != local[key]] == []


def test_the_report_is_in_the_bucket(on_cluster: str) -> None:
    files = Run.open(on_cluster).files
    assert files.get("report/index.html").lstrip().lower().startswith(b"<!doctype html")
    assert files.info("metrics.json") is not None
    assert files.info("plan.json") is not None


def test_nothing_is_damaged_and_nothing_is_left_to_do(bed: Bed, on_cluster: str) -> None:
    assert bed.nlsim("verify", on_cluster).returncode == 0
    before = contents(on_cluster)
    again = bed.nlsim(*bed.submit_words(on_cluster, "job"))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("are committed already") == len(Run.open(on_cluster).pipeline.stages)
    assert contents(on_cluster) == before


def test_another_configuration_is_refused(bed: Bed, on_cluster: str) -> None:
    done = bed.nlsim(*bed.submit_words(on_cluster, "job"), "--set", "seed=1")
    assert done.returncode == 2
    assert "was made from another configuration (changed: seed)" in done.stderr


def test_one_stage_with_a_bucket_through_docker(local: object, on_cluster: str) -> None:
    """`make run-stage RUN=s3://…`: what is committed stays, exit 0."""
    words = ["STAGE=report", f"RUN={on_cluster}", "INDEX=0", "IMAGE=cpu", f"TAG={TAG}", f"DOCKER={DOCKER}"]
    done = subprocess.run(["make", "run-stage", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"computed": false' in done.stdout


def test_paths(tmp_path: Path) -> None:
    """Without STAGE and RUN the target says what to set."""
    done = subprocess.run(["make", "run-stage"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "set STAGE and RUN" in done.stdout
