"""The shipped configurations' templates as top-level objects, for `hera generate yaml argo/library.py`."""

from __future__ import annotations

from pathlib import Path

from argo.cluster import Cluster
from argo.names import dns_name
from argo.render import shapes
from argo.template import workflow_template
from nlsim.config import load_config

CONFIGS = Path(__file__).parent.parent / "configs"


for _path in sorted(CONFIGS.glob("*.yaml")):
    _config = load_config(_path).config
    globals()[dns_name(_config.name).replace("-", "_")] = workflow_template(
        f"nlsim-{dns_name(_config.name)}", shapes(_config), Cluster()
    )
