"""Every shipped configuration, whatever its experiment and its kinds of explanations, has a workflow."""

import re
from pathlib import Path

import pytest

from argo.cluster import Cluster
from argo.render import shapes, template
from nlsim.config import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_stage_is_a_task_after_its_inputs(path: Path) -> None:
    config = load_config(path).config
    made = template(config, Cluster())
    (dag,) = [part["dag"] for part in made["spec"]["templates"] if part["name"] == "run"]
    tasks = {task["name"]: task.get("dependencies", []) for task in dag["tasks"]}
    stages = shapes(config)
    assert list(tasks) == ["plan", *(stage.name for stage in stages)]
    for stage in stages:
        assert tasks[stage.name] == ["plan", *stage.inputs]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", stage.name)


def test_finetuning_and_kinds_are_among_them() -> None:
    found = {path.stem: {stage.name for stage in shapes(load_config(path).config)} for path in CONFIGS}
    assert {"examples", "train", "judge"} <= found["finetune"]
    assert {"simulate-finetuned", "values-large", "limits", "help"} <= found["blog"]
    (train,) = [s for s in shapes(load_config(CONFIGS[0].parent / "finetune.yaml").config) if s.name == "train"]
    assert train.resources.gpus == 1
