"""What a language model costs, as far as its configuration tells: for plans only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nlsim.errors import NlsimError
from nlsim.pipeline.stage import Resources

if TYPE_CHECKING:
    from nlsim.lm.config import LmConfig

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)
GUESS = 8e9


def parameters(lm: LmConfig) -> float:
    """Parameters that compute, embedding left out: from a local folder's config, or the size in the model's name."""
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.locate import locate

    try:
        location = locate(SubjectConfig(model=lm.model, revision=lm.revision)) if lm.model else None
    except NlsimError:
        location = None
    if location is not None and location.local:
        shape = json.loads((Path(location.path) / "config.json").read_text(encoding="utf-8"))
        width, hidden = int(shape.get("hidden_size", 0)), int(shape.get("intermediate_size", 0))
        return float(int(shape.get("num_hidden_layers", 0)) * (4 * width**2 + 3 * width * hidden))
    if found := _SIZE.search(lm.model):
        return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6)
    return GUESS


def engine_resources(lm: LmConfig) -> Resources:
    """What a shard that asks the language model needs."""
    if lm.endpoint.base_url:
        return Resources(memory_gb=4.0)
    size = parameters(lm)
    gpus = int(lm.device.startswith("cuda") or (lm.device == "auto" and size > 1e9))
    return Resources(image="vllm" if lm.engine == "vllm" else "model", cpus=2.0, memory_gb=4.0 + 4e-9 * size, gpus=gpus)


def lm_identity(lm: LmConfig) -> Mapping[str, str]:
    """What pins down the language model's weights."""
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.locate import model_identity

    if lm.endpoint.base_url or not lm.model:
        return {}
    return model_identity(SubjectConfig(model=lm.model, revision=lm.revision))
