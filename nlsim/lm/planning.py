"""What a language model needs and costs, as far as its configuration tells: for plans, resources and fingerprints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nlsim.base import fingerprint_view
from nlsim.errors import NlsimError
from nlsim.pipeline.stage import Resources

if TYPE_CHECKING:
    from nlsim.lm.config import LmConfig

_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", re.IGNORECASE)
GUESS = 8e9
"""Parameters of a model of which nothing is known."""
GPU_BYTES = 70e9
"""Weights that one GPU of a data center holds beside activations."""
UNGATED = {"gpt2", "gpt_neox", "opt", "phi"}
"""Families whose feed-forward layer has two matrices; the others have a third, the gate."""


def parameters(lm: LmConfig) -> float:
    """Parameters that compute, embedding left out: from a local folder's config, or the size in the model's name."""
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.locate import locate

    try:
        location = locate(SubjectConfig(model=lm.model, revision=lm.revision)) if lm.model else None
    except NlsimError:
        location = None
    if location is not None and location.local:
        return _in_layers(json.loads((Path(location.path) / "config.json").read_text(encoding="utf-8")))
    if found := _SIZE.search(lm.model):
        return float(found[1]) * (1e9 if found[2].lower() == "b" else 1e6)
    return GUESS


def _in_layers(config: Mapping[str, Any]) -> float:
    """Parameters in the matrices of a decoder's layers."""
    width = int(config.get("hidden_size") or config.get("n_embd") or 0)
    hidden = int(config.get("intermediate_size") or 4 * width)
    heads = int(config.get("num_attention_heads") or config.get("n_head") or 1)
    groups = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or width // heads)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    matrices = 2 if config.get("model_type") in UNGATED else 3
    return float(layers * (2 * width * size * (heads + groups) + matrices * width * hidden))


def engine_resources(lm: LmConfig) -> Resources:
    """What a shard that asks the language model needs. A model over 1 billion parameters is taken to need a GPU."""
    if lm.endpoint.base_url:
        return Resources(image="model", memory_gb=4.0)
    size = parameters(lm)
    image: Literal["model", "vllm"] = "vllm" if lm.engine == "vllm" else "model"
    if not (lm.device.startswith("cuda") or (lm.device in ("auto", "shard") and size > 1e9)):
        return Resources(image=image, cpus=2.0, memory_gb=4.0 + 4e-9 * size)
    gpus = lm.vllm.tensor_parallel if lm.engine == "vllm" else 1
    if lm.device == "shard":
        gpus = math.ceil(size * (4 if lm.dtype == "float32" else 2) / GPU_BYTES)
    return Resources(image=image, cpus=2.0, memory_gb=16.0, gpus=gpus)


def flops(lm: LmConfig, tokens: float) -> float:
    """Operations on this side for so many tokens; a server's are its own affair."""
    return 0.0 if lm.endpoint.base_url else 2.0 * parameters(lm) * tokens


def price(lm: LmConfig, tokens_in: float, tokens_out: float) -> float:
    """What an endpoint charges for so many tokens, at the configured prices; a model that runs here charges nothing."""
    if not lm.endpoint.base_url:
        return 0.0
    return (tokens_in * lm.prices.input + tokens_out * lm.prices.output) / 1e6


def lm_settings(settings: Mapping[str, Any], section: str, lm: LmConfig | None) -> dict[str, Any]:
    """A stage's settings in which its section names the language model that it asks, whether that is the section's own
    or the root's; None: it asks none. So another model for one stage leaves the others' outputs as they are."""
    return {**settings, section: {**settings[section], "lm": fingerprint_view(lm)}}


def lm_identity(lm: LmConfig) -> Mapping[str, str]:
    """What pins down the language model's weights."""
    from nlsim.lm.adapter import adapter_identity
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.locate import model_identity

    if lm.endpoint.base_url or not lm.model:
        return {}
    model = model_identity(SubjectConfig(model=lm.model, revision=lm.revision))
    return {**model, **adapter_identity(lm.adapter)}
