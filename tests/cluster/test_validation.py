"""The API server's own opinion of everything that is rendered, against the complete definitions."""

import subprocess
from pathlib import Path

import pytest
import yaml
from argo_shapes import CHAIN, FULL, PLAIN, WIDE
from cluster_bed import ROOT, Bed, kubectl

from argo.cluster import Cluster
from argo.render import to_yaml
from argo.template import StageShape, workflow_template

STRICT = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")


@pytest.fixture
def needs_argo_crds(has_argo_crds: bool) -> None:
    if not has_argo_crds:
        pytest.skip("the cluster has no Argo definitions")


@pytest.mark.usefixtures("needs_argo_crds")
@pytest.mark.parametrize("shapes", [CHAIN, WIDE], ids=["chain", "wide"])
@pytest.mark.parametrize("cluster", [PLAIN, FULL], ids=["plain", "full"])
def test_workflow_templates(bed: Bed, shapes: tuple[StageShape, ...], cluster: Cluster) -> None:
    here = cluster.model_copy(update={"namespace": bed.namespace})
    text = to_yaml(workflow_template("nlsim-check", list(shapes), here).to_dict())
    assert "nlsim-check" in kubectl(*STRICT, stdin=text)


@pytest.mark.usefixtures("needs_argo_crds")
def test_a_misspelt_field_is_refused(bed: Bed) -> None:
    """The check above can fail."""
    template = workflow_template(
        "nlsim-check", list(CHAIN), PLAIN.model_copy(update={"namespace": bed.namespace})
    ).to_dict()
    template["spec"]["templates"][0]["retryStrategy"]["limmit"] = "5"
    assert "limmit" in kubectl(*STRICT, stdin=yaml.safe_dump(template), check=False)


@pytest.mark.parametrize("values", sorted((ROOT / "charts/nlsim/ci").glob("*.yaml")), ids=lambda path: path.stem)
def test_chart(bed: Bed, values: Path, has_argo_crds: bool) -> None:
    words = ["helm", "template", "nlsim", str(ROOT / "charts/nlsim"), "-n", bed.namespace, "-f", str(values)]
    words += ["--kube-version", "1.34", "--api-versions", "argoproj.io/v1alpha1"]
    if not has_argo_crds:
        words += ["--set", "workflowTemplates.enabled=false"]
    rendered = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "serverside-applied" in kubectl(*STRICT, stdin=rendered)


@pytest.mark.parametrize("overlay", ["dev", "gpu"])
def test_overlays(bed: Bed, overlay: str) -> None:
    rendered = kubectl("kustomize", str(ROOT / "k8s/overlays" / overlay))
    here = rendered.replace("namespace: nlsim\n", f"namespace: {bed.namespace}\n")
    assert "serverside-applied" in kubectl(*STRICT, stdin=here)


def test_kueue_overlay_renders() -> None:
    kinds = [
        document["kind"] for document in yaml.safe_load_all(kubectl("kustomize", str(ROOT / "k8s/overlays/kueue")))
    ]
    assert sorted(kinds) == ["ClusterQueue", "LocalQueue", "Namespace", "ResourceFlavor"]


def test_helm_test(bed: Bed) -> None:
    """A pod with the stages' rights reads and writes the bucket, and conditional writes hold."""
    words = ["helm", "test", "nlsim", "-n", bed.namespace, "--timeout", "3m"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
