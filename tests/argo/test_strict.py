"""Unknown and misspelt fields never reach a cluster."""

from pathlib import Path

import pytest
from hera.workflows import models as m

from argo.cluster import Cluster, load_cluster
from argo.strict import checked
from nlsim.errors import UsageError


def test_checked_keeps_what_the_model_knows() -> None:
    found = checked(m.Toleration, {"key": "a", "operator": "Exists"})
    assert found.key == "a"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (m.Toleration, {"kee": "a"}),
        (m.SecurityContext, {"capabilities": {"drop": ["ALL"], "dorp": []}}),
        (m.PodGC, {"strategy": "OnPodSuccess", "delay": "5s"}),
    ],
)
def test_checked_refuses_what_generated_models_would_drop(kind: type[m.Toleration], data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="does not keep"):
        checked(kind, data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("namespce: x", "namespce"),
        ("gpu: {shared_memory_gb: 0}", "shared_memory_gb"),
        ("images: {pull_policy: Sometimes}", "pull_policy"),
        ("- a", "settings"),
        ("a: [", "cannot read"),
    ],
)
def test_wrong_settings_are_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_cluster(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overlay", ["dev", "gpu", "kueue"])
def test_shipped_settings_are_valid(overlay: str) -> None:
    settings = load_cluster(Path(__file__).parents[2] / "k8s" / "overlays" / overlay / "cluster.yaml")
    assert settings != Cluster()


def test_missing_settings_file() -> None:
    with pytest.raises(UsageError, match=r"cannot read the cluster's settings nowhere\.yaml"):
        load_cluster("nowhere.yaml")
