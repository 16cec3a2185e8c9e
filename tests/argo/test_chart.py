"""The chart: what its values change, and what they may not be. `helm` renders; without it these tests are skipped."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from argo.cluster import Cluster
from argo.render import template, to_yaml
from nlsim.config import load_config

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "nlsim"
SHIPPED = sorted((CHART / "files" / "workflowtemplates").glob("*.yaml"))
OWN_HELM = Path.home() / ".cache" / "nlsim" / "bin" / "helm"
HELM = shutil.which("helm") or (str(OWN_HELM) if OWN_HELM.exists() else None)
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not installed (`make helm` builds it)")


def helm(*words: str, api: bool = True) -> subprocess.CompletedProcess[str]:
    versions = ["--kube-version", "1.34", *(["--api-versions", "argoproj.io/v1alpha1"] if api else [])]
    command = [str(HELM), "template", "release", str(CHART), "-n", "team", *versions, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def objects(*words: str) -> dict[tuple[str, str], dict[str, Any]]:
    done = helm(*words)
    assert done.returncode == 0, done.stderr
    found = [item for item in yaml.safe_load_all(done.stdout) if item]
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_workflow_templates_are_up_to_date(path: Path) -> None:
    """`make render` was run after the last change."""
    config = load_config(ROOT / "configs" / f"{path.stem.removeprefix('nlsim-')}.yaml").config
    assert path.read_text(encoding="utf-8") == to_yaml(template(config, Cluster())), (
        f"{path.name} is not what {path.stem.removeprefix('nlsim-')}.yaml renders: `make render` writes it anew"
    )


@needs_helm
def test_defaults() -> None:
    made = objects()
    assert {name for kind, name in made if kind == "WorkflowTemplate"} == {path.stem for path in SHIPPED}
    role = made["Role", "nlsim-executor"]
    assert role["rules"] == [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
    ]
    assert made["Secret", "nlsim-executor.service-account-token"]["type"] == "kubernetes.io/service-account-token"
    assert ("Secret", "nlsim-store") not in made
    assert made["ServiceAccount", "nlsim-stage"]["automountServiceAccountToken"] is False
    assert all(item["metadata"]["namespace"] == "team" for item in made.values())


@needs_helm
def test_values_reach_the_workflow_templates_and_argos_braces_stay() -> None:
    made = objects("-f", str(CHART / "ci" / "full-values.yaml"))
    original = yaml.safe_load(SHIPPED[0].read_text(encoding="utf-8"))
    workflow = made["WorkflowTemplate", original["metadata"]["name"]]
    assert workflow["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    seen = set()
    for was, now in zip(original["spec"]["templates"], workflow["spec"]["templates"], strict=True):
        if "container" not in was:
            assert now == was
            continue
        assert now["container"]["args"] == was["container"]["args"]
        image = now["container"]["image"]
        seen.add(image)
        assert image.startswith("registry.example.org/team/nlsim-")
        assert ("@sha256:" in image) == ("model" in image)
        gpu = "nvidia.com/gpu" in now["container"]["resources"]["limits"]
        assert ("synchronization" in now) == gpu
        assert now.get("nodeSelector") == ({"accelerator": "h100"} if gpu else None)
        patch, before = json.loads(now["podSpecPatch"]), json.loads(was["podSpecPatch"])
        assert patch == before | ({"runtimeClassName": "nvidia"} if gpu else {})
    assert "registry.example.org/team/nlsim-cpu:9.9.9" in seen


@needs_helm
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("images.tga=x", "tga"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("store.endpoint=store:9000", "endpoint"),
        ("vllm.gpus=0", "gpus"),
    ],
)
def test_wrong_values_are_refused(setting: str, message: str) -> None:
    done = helm("--set", setting)
    assert done.returncode != 0
    assert message in done.stderr


@needs_helm
def test_a_cluster_without_argo_is_told_what_to_do() -> None:
    done = helm(api=False)
    assert done.returncode != 0
    assert "set workflowTemplates.enabled=false" in done.stderr
    assert helm("-f", str(CHART / "ci" / "job-only-values.yaml"), api=False).returncode == 0
