"""OpenAI's sparse autoencoders: one .pt file with the state dict of their `Autoencoder`."""

from pathlib import Path

from torch import Tensor

from nlsim.coders.coder import Activation, CoderMeta
from nlsim.coders.files import read_torch
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

NAMES = {
    "encoder.weight": "encoder_MD",
    "latent_bias": "encoder_bias_M",
    "decoder.weight": "decoder_MO",
    "pre_bias": "decoder_bias_O",
}
TIED = "decoder.linear.weight"
STATISTICS = {"stats_last_nonzero", "latents_activation_frequency", "latents_mean_square"}


def matches(path: Path) -> bool:
    """A file that torch wrote."""
    return path.is_file() and path.suffix in (".pt", ".pth")


def meta(path: Path) -> CoderMeta:
    """Metadata; they are inside the file with the weights. Where the coder belongs is not there."""
    return read(path, "cpu").meta


def read(path: Path, device: str) -> SparseCoder:
    """The coder. Those with a TopK activation normalise what they read, as OpenAI's own loader does."""
    state = read_torch(path, device)
    function, k = str(state.pop("activation", "ReLU")), None
    details = state.pop("activation_state_dict", {})
    if function == "TopK":
        k, function = int(details.get("k", 0)), str(details.get("postact_fn", "ReLU"))
    if function != "ReLU":
        raise DataError(f"{path} has the activation {function}", "nlsim reads ReLU, and TopK of ReLU")
    tied = TIED in state
    weights: dict[str, Tensor] = {name: tensor for name, tensor in state.items() if name not in STATISTICS | {TIED}}
    if tied and "encoder.weight" in weights:
        weights["decoder.weight"] = weights["encoder.weight"].T
    if missing := sorted(NAMES.keys() - weights.keys()):
        raise DataError(f"{path} has no {', '.join(missing)}", "it is no autoencoder of OpenAI's form")
    tensors = {NAMES.get(name, name): tensor for name, tensor in weights.items()}
    tensors["decoder_MO"] = tensors["decoder_MO"].T.contiguous()
    tensors["input_bias_D"] = tensors["decoder_bias_O"]
    width, d_in = tensors["encoder_MD"].shape
    activation: Activation = "relu" if k is None else "topk"
    found = CoderMeta(
        kind="sae",
        hookpoint="",
        d_in=d_in,
        d_out=tensors["decoder_MO"].shape[1],
        width=width,
        activation=activation,
        k=k,
        normalization="none" if k is None else "layer_norm",
    )
    return SparseCoder(found, tensors)
