"""A namespace of its own on the cluster of KUBECONFIG, with the chart in it, and a bucket that both sides reach.

Needs KUBECONFIG, kubectl and helm, the images nlsim-cpu and nlsim-model on the nodes (tag NLSIM_TEST_TAG), and
NLSIM_TEST_S3_ENDPOINT (this side), NLSIM_TEST_S3_ENDPOINT_FROM_PODS, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster_bed import DOCKER, NEEDED, QUICK, ROOT, TAG, Bed, Contents, contents, kubectl

from nlsim.config import load_config
from nlsim.pipeline.run import Run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    missing += [program for program in ("kubectl", "helm") if shutil.which(program) is None]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"no cluster: {', '.join(missing)} missing"))


@pytest.fixture(scope="session", autouse=True)
def store_environment() -> None:
    os.environ.setdefault("AWS_ENDPOINT_URL", os.environ.get("NLSIM_TEST_S3_ENDPOINT", ""))


@pytest.fixture(scope="session")
def has_argo_crds() -> bool:
    return "argoproj.io/v1alpha1" in kubectl("api-versions")


@pytest.fixture(scope="session")
def bed(tmp_path_factory: pytest.TempPathFactory, has_argo_crds: bool, store_environment: None) -> Iterator[Bed]:
    import boto3

    name = f"nlsim-e2e-{uuid.uuid4().hex[:6]}"
    namespace = yaml.safe_load((ROOT / "k8s/base/namespace.yaml").read_text())
    namespace["metadata"]["name"] = name
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(namespace))
    boto3.client("s3").create_bucket(Bucket=name)
    values = {
        "images": {"tag": TAG},
        "workflowTemplates": {"enabled": has_argo_crds},
        "store": {
            "endpoint": os.environ["NLSIM_TEST_S3_ENDPOINT_FROM_PODS"],
            "testUrl": f"s3://{name}/helm-test",
            "create": {
                "enabled": True,
                "accessKeyId": os.environ["AWS_ACCESS_KEY_ID"],
                "secretAccessKey": os.environ["AWS_SECRET_ACCESS_KEY"],
            },
        },
    }
    folder = tmp_path_factory.mktemp("bed")
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    install = ["helm", "upgrade", "--install", "nlsim", str(ROOT / "charts/nlsim"), "-n", name]
    subprocess.run([*install, "-f", str(folder / "values.yaml"), "--wait"], check=True, capture_output=True)
    settings = {
        "namespace": name,
        "images": {"cpu": f"nlsim-cpu:{TAG}", "model": f"nlsim-model:{TAG}", "pull_policy": "IfNotPresent"},
        "parallelism": 2,
        "cpu_requests": 0.2,
        "grace_seconds": 20,
    }
    (folder / "cluster.yaml").write_text(yaml.safe_dump(settings))
    yield Bed(name, name, folder / "cluster.yaml")
    if not os.environ.get("NLSIM_TEST_KEEP"):
        # jobs first: a pod that outlives its job in a namespace that is going can keep the job's finalizer for ever
        kubectl("delete", "jobs", "--all", "-n", name, "--cascade=foreground", "--timeout=60s", check=False)
        kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """The same run in a folder: every shard by `make run-stage`, a plain `docker run` of the same image."""
    if shutil.which(DOCKER) is None or subprocess.run([DOCKER, "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker to run the stages in, side by side with the cluster's")
    folder = tmp_path_factory.mktemp("local") / "run"
    overrides = [f"{key}={value}" for key, value in QUICK.items()]
    config = load_config(ROOT / "configs/tiny.yaml", overrides).config
    run = Run.create(str(folder), config)
    folder.chmod(0o777)
    for stage in run.pipeline.stages:
        resources = stage.resources(config)
        for shard in range(stage.shards(config)):
            words = [f"STAGE={stage.name}", f"RUN={folder}", f"INDEX={shard}", f"IMAGE={resources.image}", f"TAG={TAG}"]
            subprocess.run(
                ["make", "--no-print-directory", "run-stage", f"DOCKER={DOCKER}", *words],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": str(max(int(resources.cpus), 1))},
                check=True,
                capture_output=True,
            )
    return contents(str(folder))
