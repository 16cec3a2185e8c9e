"""From a configuration and a cluster's settings to YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from argo.names import dns_name
from argo.template import StageShape, shapes_of, workflow_template

if TYPE_CHECKING:
    from argo.cluster import Cluster
    from argo.pod import Json
    from nlsim.config import Config


def shapes(config: Config) -> list[StageShape]:
    """The stages of the configuration's pipeline."""
    from nlsim.pipeline.registry import pipeline_of

    return shapes_of(pipeline_of(config), config)


def template(config: Config, cluster: Cluster) -> Json:
    """The WorkflowTemplate `nlsim-<name>` of a configuration, as plain data."""
    made: Json = workflow_template(f"nlsim-{dns_name(config.name)}", shapes(config), cluster).to_dict()
    return made


def to_yaml(manifest: Json) -> str:
    """YAML with long strings on one line, so that a change is one line of a diff."""
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=10_000)
