"""Coders trained with EleutherAI's sparsify: a folder with cfg.json and sae.safetensors, named after its hookpoint."""

import re
from pathlib import Path

from nlsim.coders.coder import CoderMeta
from nlsim.coders.file import read_safetensors
from nlsim.coders.files import read_json
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
    activation = config.get("activation", "topk")
    if activation not in ("topk", "groupmax") or config.get(
        "signed"
    ):  # multi_topk is a term of the training loss alone
        raise DataError(
            f"{path} uses an activation that nlsim does not read",
            "it reads sparsify's topk and groupmax, not signed activations",
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
        activation=activation,
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
