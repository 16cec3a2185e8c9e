"""Coders trained with EleutherAI's sparsify: a folder with cfg.json and sae.safetensors, named after its hookpoint."""

import json
import re
from pathlib import Path
from typing import Any

from nlsim.coders.coder import CoderMeta
from nlsim.coders.file import read_safetensors
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
NAMES = {
    "encoder.weight": "encoder_MD",
    "encoder.bias": "encoder_bias_M",
    "W_dec": "decoder_MO",
    "b_dec": "decoder_bias_O",
    "W_skip": "skip_OD",
}


def matches(path: Path) -> bool:
    """A folder with the two files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def meta(path: Path) -> CoderMeta:
    """Metadata; the hookpoint is the folder's name where that looks like one, else empty."""
    config = read_json(path / CONFIG)
    if config.get("activation", "topk") != "topk" or config.get("multi_topk"):
        raise DataError(
            f"{path} uses an activation that nlsim does not read", "only plain topk sparsify coders are supported"
        )
    try:
        d_in, k = int(config["d_in"]), int(config["k"])
        width = int(config.get("num_latents") or d_in * int(config["expansion_factor"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path / CONFIG} lacks {error}", "it is not the configuration of a sparsify coder") from error
    return CoderMeta(
        kind="transcoder" if config.get("transcode") else "sae",
        hookpoint=path.name if re.search(r"\.\d+|embed", path.name) else "",
        d_in=d_in,
        d_out=d_in,
        width=width,
        activation="topk",
        k=k,
        skip=bool(config.get("skip_connection")),
    )


def read(path: Path, device: str) -> SparseCoder:
    """The coder. An SAE subtracts its decoder bias from what it reads; a transcoder does not."""
    found = meta(path)
    stored = read_safetensors(path / WEIGHTS, device)[1]
    tensors = {NAMES.get(name, name): tensor for name, tensor in stored.items()}
    if found.kind == "sae" and "decoder_bias_O" in tensors:
        tensors["input_bias_D"] = tensors["decoder_bias_O"]
    return SparseCoder(found, tensors)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or DataError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}", str(error).splitlines()[0]) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no settings", "it is not a coder's configuration")
    return value
