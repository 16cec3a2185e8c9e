"""Coders written out as dense formulas: the oracle for encode and decode."""

import torch
from torch import Tensor

from nlsim.coders.coder import Activation, CoderMeta, Kind
from nlsim.coders.sparse import SparseCoder, shapes


def random_coder(
    activation: Activation = "topk",
    *,
    kind: Kind = "transcoder",
    skip: bool = False,
    d_in: int = 6,
    d_out: int = 6,
    width: int = 40,
    k: int = 5,
    seed: int = 0,
    input_bias: bool = False,
) -> SparseCoder:
    """A coder with random weights; half of its thresholds are exceeded now and then."""
    meta = CoderMeta(
        kind=kind,
        hookpoint="layers.0.mlp",
        d_in=d_in,
        d_out=d_out,
        width=width,
        activation=activation,
        k=k if activation in ("topk", "batchtopk", "groupmax") else None,
        skip=skip,
    )
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes(meta).items()}
    if "threshold_M" in tensors:
        tensors["threshold_M"].abs_()
    if not input_bias:
        del tensors["input_bias_D"]
    return SparseCoder(meta, tensors)


def dense_acts(coder: SparseCoder, x_ND: Tensor) -> Tensor:
    """z [N, width] by the definition of each activation."""
    t = coder.tensors
    pre_NM = (x_ND - t.get("input_bias_D", torch.zeros(coder.meta.d_in))) @ t["encoder_MD"].T + t["encoder_bias_M"]
    if coder.meta.activation == "topk":
        z_NM = torch.zeros_like(pre_NM)
        for row, pre_M in zip(z_NM, pre_NM, strict=True):
            for latent in pre_M.argsort(descending=True)[: coder.meta.k]:
                row[latent] = max(float(pre_M[latent]), 0.0)
        return z_NM
    if coder.meta.activation == "groupmax":
        z_NM = torch.zeros_like(pre_NM)
        size = coder.meta.width // (coder.meta.k or 1)
        for row, pre_M in zip(z_NM, pre_NM, strict=True):
            for start in range(0, coder.meta.width, size):
                best = start + int(pre_M[start : start + size].argmax())
                row[best] = max(float(pre_M[best]), 0.0)
        return z_NM
    threshold_M = t.get("threshold_M", torch.zeros(coder.meta.width))
    return torch.where((pre_NM > threshold_M) & (pre_NM > 0), pre_NM, 0.0)


def dense_output(coder: SparseCoder, z_NM: Tensor, x_ND: Tensor) -> Tensor:
    """y [N, d_out] = z W_dec + b_dec + x W_skipᵀ."""
    y_NO = z_NM @ coder.tensors["decoder_MO"] + coder.tensors["decoder_bias_O"]
    return y_NO + x_ND @ coder.tensors["skip_OD"].T if coder.meta.skip else y_NO
