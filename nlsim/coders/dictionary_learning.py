"""Coders trained with `dictionary_learning`: a folder with ae.pt (a state dict) and config.json (the trainer's)."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from nlsim.coders.coder import Activation, CoderMeta
from nlsim.coders.files import read_json, read_torch
from nlsim.coders.fold import folded_norms, gated
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

CONFIG, WEIGHTS = "config.json", "ae.pt"
LINEAR = {"encoder.weight", "encoder.bias", "decoder.weight"}
MATRICES = {"W_enc", "b_enc", "W_dec", "b_dec", "threshold"}


def matches(path: Path) -> bool:
    """ae.pt, or a folder with it."""
    return path.name == WEIGHTS if path.is_file() else (path / WEIGHTS).is_file()


def meta(path: Path) -> CoderMeta:
    """Metadata. The class of coder shows in the names of its weights, so they are read."""
    return read(path, "cpu").meta


def read(path: Path, device: str) -> SparseCoder:
    """The coder. Raises DataError for pickled code, and for a class of coder that is not one of those below."""
    file = path if path.is_file() else path / WEIGHTS
    settings = _settings(file.with_name(CONFIG))
    state = read_torch(file, device)
    names = set(state)
    k = int(state["k"]) if "k" in names else None
    if names == {*LINEAR, "bias"}:  # AutoEncoder
        activation: Activation = "relu"
        tensors = _linear(state, state["bias"], input_bias=True)
    elif names == {*LINEAR, "decoder.bias"}:  # AutoEncoderNew
        activation = "relu"
        tensors = _linear(state, state["decoder.bias"], input_bias=False)
    elif names == {"encoder.weight", "decoder.weight", "decoder_bias", "r_mag", "gate_bias", "mag_bias"}:
        activation, tensors = "jumprelu", _gated(state)
    elif names == MATRICES:  # JumpReluAutoEncoder: no bias is taken off the input, activations carry decoder norms
        activation = "jumprelu"
        tensors = folded_norms({**_matrices(state), "threshold_M": state["threshold"].float()})
    elif names >= {*LINEAR, "b_dec", "k"} and names <= {*LINEAR, "b_dec", "k", "threshold"}:
        batch = settings.get("dict_class") == "BatchTopKSAE"
        activation = "batchtopk" if batch else "topk"
        tensors = _linear(state, state["b_dec"], input_bias=True)
        if batch:
            tensors["threshold_M"] = _threshold(file, state, len(tensors["encoder_MD"]))
        elif "dict_class" not in settings and "threshold" in names:
            raise DataError(
                f"{file} may be a TopK or a BatchTopK coder", "keep its config.json, which says which, beside it"
            )
    elif names == {*MATRICES, "k", "group_sizes"}:  # MatryoshkaBatchTopKSAE
        activation = "batchtopk"
        tensors = {**_matrices(state), "input_bias_D": state["b_dec"].float()}
        tensors["threshold_M"] = _threshold(file, state, len(tensors["encoder_MD"]))
    else:
        raise DataError(
            f"{file} is no coder that nlsim knows (it has {', '.join(sorted(names)[:8])})",
            "known: AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder, AutoEncoderTopK, BatchTopKSAE, "
            "MatryoshkaBatchTopKSAE",
        )
    width, d_in = tensors["encoder_MD"].shape
    found = CoderMeta(
        kind="sae",
        hookpoint=_hookpoint(settings),
        d_in=d_in,
        d_out=tensors["decoder_MO"].shape[1],
        width=width,
        activation=activation,
        k=k,
        subject=str(settings.get("lm_name") or ""),
    )
    return SparseCoder(found, tensors)


def _settings(file: Path) -> dict[str, Any]:
    """The trainer's settings; none without the file."""
    if not file.is_file():
        return {}
    settings = read_json(file).get("trainer", {})
    return settings if isinstance(settings, dict) else {}


def _hookpoint(settings: dict[str, Any]) -> str:
    """Where it was trained: the residual stream after `layer` unless the submodule's name says otherwise."""
    layer, name = settings.get("layer"), str(settings.get("submodule_name") or "")
    if layer is None:
        return ""
    place = re.fullmatch(r"(?:resid_post|mlp_out|attn_out)(?:_layer_\d+)?", name)
    if name and place is None:
        return ""
    return f"blocks.{layer}.hook_{re.sub(r'_layer_.*', '', name) or 'resid_post'}"


def _linear(state: dict[str, Tensor], bias_O: Tensor, *, input_bias: bool) -> dict[str, Tensor]:
    tensors = {
        "encoder_MD": state["encoder.weight"].float(),
        "encoder_bias_M": state["encoder.bias"].float(),
        "decoder_MO": state["decoder.weight"].float().T.contiguous(),
        "decoder_bias_O": bias_O.float(),
    }
    return {**tensors, "input_bias_D": bias_O.float()} if input_bias else tensors


def _matrices(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "encoder_MD": state["W_enc"].float().T.contiguous(),
        "encoder_bias_M": state["b_enc"].float(),
        "decoder_MO": state["W_dec"].float(),
        "decoder_bias_O": state["b_dec"].float(),
    }


def _gated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """GatedAutoEncoder; its activations carry the decoder's norms."""
    bias_O = state["decoder_bias"].float()
    encoder = gated(*(state[name].float() for name in ("encoder.weight", "r_mag", "gate_bias", "mag_bias")))
    decoder = {"decoder_MO": state["decoder.weight"].float().T.contiguous(), "decoder_bias_O": bias_O}
    return folded_norms({**encoder, **decoder, "input_bias_D": bias_O})


def _threshold(file: Path, state: dict[str, Tensor], width: int) -> Tensor:
    """One for all latents. Training sets it late: before, it is -1 and the coder depends on its batch."""
    if "threshold" not in state or float(state["threshold"]) < 0:
        raise DataError(
            f"{file} has no threshold: whether a latent is active would depend on the batch", "train it longer"
        )
    return state["threshold"].float().reshape(1).repeat(width)
