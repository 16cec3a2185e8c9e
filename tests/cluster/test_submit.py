"""What `nlsim submit` says when something is missing: one clear line, before anything is created."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster_bed import ROOT, Bed, kubectl

from argo.api import connect
from argo.cluster import load_cluster
from argo.jobs import Controller
from nlsim.config import load_config
from nlsim.errors import TransientError
from nlsim.pipeline.run import Run
from nlsim.pipeline.stage import Resources


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("nlsim: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def submit(bed: Bed, *more: str, run: str = "refused", engine: str = "job", env: dict[str, str] | None = None) -> str:
    return refused(bed.nlsim(*bed.submit_words(f"s3://{bed.bucket}/{run}", engine), *more, env=env))


def test_no_namespace(bed: Bed) -> None:
    assert "namespace nowhere is missing: kubectl apply -k k8s/base" in submit(bed, "--namespace", "nowhere")


def test_no_secret(bed: Bed, tmp_path: Path) -> None:
    said = submit(bed.with_settings(tmp_path / "c.yaml", secret="other"))
    assert "secret other is missing: kubectl create secret generic other" in said


def test_no_rights(bed: Bed, tmp_path: Path) -> None:
    """The verb that is missing is named."""
    token = kubectl("create", "token", "nlsim-stage", "-n", bed.namespace).strip()
    config = json.loads(kubectl("config", "view", "--minify", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    said = submit(bed, env={"KUBECONFIG": str(tmp_path / "kubeconfig")})
    assert "you may not create jobs in namespace" in said


def test_nothing_missing(bed: Bed) -> None:
    done = bed.nlsim(*bed.submit_words(f"s3://{bed.bucket}/dry", "job"), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "everything that the run needs is there" in done.stdout


def test_no_image(bed: Bed, tmp_path: Path) -> None:
    images = {"cpu": "nlsim-cpu:never-built", "pull_policy": "Never"}
    said = submit(bed.with_settings(tmp_path / "c.yaml", images=images), run="no-image")
    assert "cannot start: ErrImageNeverPull" in said


def test_a_bucket_that_pods_do_not_reach(bed: Bed, tmp_path: Path) -> None:
    environment = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "astray", "namespace": bed.namespace},
        "data": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(environment))
    said = submit(bed.with_settings(tmp_path / "c.yaml", environment="astray", retries=0), run="astray")
    assert "plan: " in said
    assert "127.0.0.1:9" in said


def test_no_node_takes_the_pod(bed: Bed, tmp_path: Path) -> None:
    """The scheduler's own words, after the time that a pod may wait."""
    words = ("--pending-minutes", "0.02")
    said = submit(bed.with_settings(tmp_path / "c.yaml", planning_memory_gb=1e6), *words, run="unschedulable")
    assert "no node takes it: 0/" in said
    assert "Insufficient memory" in said


def test_a_gpu_that_no_node_has(bed: Bed) -> None:
    """A Job that asks for more GPUs than any node has."""
    cluster = load_cluster(bed.settings)
    run = Run.create(f"s3://{bed.bucket}/gpus", load_config(ROOT / "configs/tiny.yaml").config)
    controller = Controller(connect(bed.namespace), cluster, run, print, pending_minutes=0.02)
    with pytest.raises(TransientError, match=r"no node takes it: .*Insufficient nvidia\.com/gpu"):
        controller.finish("simulate", controller.job("simulate", Resources("cpu", 1, 1, 64), ["doctor"], 1))


def test_quota(bed: Bed) -> None:
    with bed.tight_quota():
        said = submit(bed, run="quota")
    assert "exceeded quota: tight" in said
