"""Llama Scope: JumpReLU SAEs and transcoders of Llama-3.1-8B, as OpenMOSS' Language-Model-SAEs stored them in 2024."""

from pathlib import Path
from typing import Any

from torch import Tensor

from nlsim.coders.coder import CoderMeta
from nlsim.coders.file import read_safetensors
from nlsim.coders.files import read_json
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

CONFIG, WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"


def matches(path: Path) -> bool:
    """A folder with the two files."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def meta(path: Path) -> CoderMeta:
    """Metadata from hyperparams.json; the hookpoint names what is read and, for a transcoder, what is written."""
    return _meta(path, read_json(path / CONFIG))


def read(path: Path, device: str) -> SparseCoder:
    """The coder. Raises DataError for an activation or normalization that Llama Scope does not have.

    Its weights are for vectors scaled to an average length of √d (`dataset_average_activation_norm`), while the
    threshold is one of activations in the model's own units, with unit decoder rows: both scales and the rows' norms
    are folded into the weights, as its own library does on loading.
    """
    config = read_json(path / CONFIG)
    found = _meta(path, config)
    stored = {name: tensor.float() for name, tensor in read_safetensors(path / WEIGHTS, device)[1].items()}
    names = {"encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"}
    if stored.keys() != names:
        raise DataError(f"{path / WEIGHTS} does not hold {', '.join(sorted(names))}", "it is no coder of Llama Scope")
    scale_in, scale_out = (found.d_in**0.5 / config["dataset_average_activation_norm"][side] for side in ("in", "out"))
    decoder_MO: Tensor = stored["decoder.weight"].T
    norm_M = decoder_MO.norm(dim=1)
    unit_M = norm_M / scale_out  # activations in units of unit decoder rows
    tensors = {
        "encoder_MD": stored["encoder.weight"] * (scale_in * unit_M)[:, None],
        "encoder_bias_M": stored["encoder.bias"] * unit_M,
        "decoder_MO": (decoder_MO / norm_M[:, None]).contiguous(),
        "decoder_bias_O": stored["decoder.bias"] / scale_out,
        "threshold_M": norm_M.new_full(norm_M.shape, float(config["jump_relu_threshold"])),
    }
    return SparseCoder(found, tensors)


def _meta(path: Path, config: dict[str, Any]) -> CoderMeta:
    expected = {
        "act_fn": "jumprelu",
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "use_glu_encoder": False,
    }
    for key, value in expected.items():
        if config.get(key) != value:
            raise DataError(f"{path / CONFIG} has {key}: {config.get(key)}", f"nlsim reads coders with {key}: {value}")
    try:
        source, target = str(config["hook_point_in"]), str(config["hook_point_out"])
        d, width = int(config["d_model"]), int(config["d_sae"])
        float(config["jump_relu_threshold"])
        norms = [float(config["dataset_average_activation_norm"][side]) for side in ("in", "out")]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path / CONFIG} lacks {error}", "it is no configuration of Llama Scope") from error
    if not all(norm > 0 for norm in norms):
        raise DataError(f"{path / CONFIG} has average norms of {norms}", "download it again")
    transcoder = source != target
    return CoderMeta(
        kind="transcoder" if transcoder else "sae",
        hookpoint=f"{source} -> {target}" if transcoder else source,
        d_in=d,
        d_out=d,
        width=width,
        activation="jumprelu",
        subject="meta-llama/Llama-3.1-8B",
    )
