"""Gemma Scope: JumpReLU SAEs and transcoders in `params.npz`, named by their folders (layer_12/width_16k/…)."""

import re
from pathlib import Path

import torch
from torch import Tensor

from nlsim.coders.coder import CoderMeta, Kind
from nlsim.coders.files import read_npz
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

FILE = "params.npz"
NAMES = {"W_enc": "encoder_MD", "b_enc": "encoder_bias_M", "W_dec": "decoder_MO", "b_dec": "decoder_bias_O"}
PLACES = {
    "res": "blocks.{0}.hook_resid_post",
    "mlp": "blocks.{0}.hook_mlp_out",
    "att": "blocks.{0}.attn.hook_z",
    "transcoders": "blocks.{0}.ln2.hook_normalized -> blocks.{0}.hook_mlp_out",
}
"""Kind of release → hookpoint of a layer. Lieberum et al. 2024: residual stream after the layer, the MLP's output after
its norm, the attention heads' output before their projection; transcoders read after the norm, its gain left out."""


def matches(path: Path) -> bool:
    """An .npz file, or a folder with params.npz."""
    return path.suffix == ".npz" if path.is_file() else (path / FILE).is_file()


def meta(path: Path) -> CoderMeta:
    """Metadata from the names of the folders and the arrays' shapes."""
    return _meta(path, _tensors(path))


def read(path: Path, device: str) -> SparseCoder:
    """The coder. Raises DataError for arrays that Gemma Scope does not have."""
    tensors = _tensors(path)
    return SparseCoder(_meta(path, tensors), {name: tensor.to(device) for name, tensor in tensors.items()})


def _tensors(path: Path) -> dict[str, Tensor]:
    file = path if path.is_file() else path / FILE
    arrays = read_npz(file)
    if missing := sorted({*NAMES, "threshold"} - arrays.keys()):
        raise DataError(f"{file} has no {', '.join(missing)}", "it is no coder of Gemma Scope")
    if unknown := sorted(arrays.keys() - {*NAMES, "threshold"}):
        raise DataError(f"{file} has arrays that nlsim does not know: {', '.join(unknown)}", "update nlsim")
    tensors = {ours: torch.from_numpy(arrays[theirs]) for theirs, ours in NAMES.items()}
    tensors["encoder_MD"] = tensors["encoder_MD"].T.contiguous()
    return {**tensors, "threshold_M": torch.from_numpy(arrays["threshold"])}


def _meta(path: Path, tensors: dict[str, Tensor]) -> CoderMeta:
    where = path.resolve().as_posix() if path.is_file() else f"{path.absolute().as_posix()}/"
    release = re.search(r"gemma-scope-(\w+)-(pt|it)-(res|mlp|att|transcoders)\b", where)
    layer = re.search(r"/layer_(\d+)/", where)
    kind: Kind = "transcoder" if release and release[3] == "transcoders" else "sae"
    width, d_in = tensors["encoder_MD"].shape
    return CoderMeta(
        kind=kind,
        hookpoint=PLACES[release[3]].format(layer[1]) if release and layer else "",
        d_in=d_in,
        d_out=tensors["decoder_MO"].shape[1],
        width=width,
        activation="jumprelu",
        subject=f"google/gemma-2-{release[1]}" + ("-it" if release[2] == "it" else "") if release else "",
    )
