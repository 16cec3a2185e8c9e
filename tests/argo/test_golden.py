"""Rendered workflows as they were reviewed.

`make render` (NLSIM_REGENERATE=1) writes them anew: look at the difference before committing.
"""

import os
from pathlib import Path

import pytest
import yaml
from argo_shapes import CHAIN, FULL, PLAIN, WIDE

from argo.cluster import Cluster
from argo.render import to_yaml
from argo.template import StageShape, workflow_template

GOLDEN = Path(__file__).parent / "golden"
CASES = {"chain": (CHAIN, PLAIN), "chain-full": (CHAIN, FULL), "wide": (WIDE, FULL)}


def render(name: str, shapes: tuple[StageShape, ...], cluster: Cluster) -> str:
    return to_yaml(workflow_template(f"nlsim-{name}", list(shapes), cluster).to_dict())


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    text = render(name, *CASES[name])
    if os.environ.get("NLSIM_REGENERATE"):
        assert not os.environ.get("CI"), "golden files are never regenerated in CI"
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), (
        "rendered differently: `make render` writes it anew; look at the difference"
    )


@pytest.mark.parametrize("name", CASES)
def test_rendering_is_deterministic_and_round_trips(name: str) -> None:
    text = render(name, *CASES[name])
    assert text == render(name, *CASES[name])
    assert to_yaml(yaml.safe_load(text)) == text
