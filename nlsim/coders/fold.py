"""Rewriting coders into the one form that `SparseCoder` computes, without changing what they compute."""

from collections.abc import Mapping

from torch import Tensor


def gated(encoder_MD: Tensor, log_scale_M: Tensor, gate_bias_M: Tensor, bias_M: Tensor) -> dict[str, Tensor]:
    """A gated encoder (Rajamanoharan et al. 2024a) as a JumpReLU one.

    z = [Wx + g > 0] · ReLU(eʳ Wx + b). With pre = eʳ Wx + b the gate is open where pre > b - eʳ g, a threshold.
    """
    scale_M = log_scale_M.exp()
    return {
        "encoder_MD": encoder_MD * scale_M[:, None],
        "encoder_bias_M": bias_M,
        "threshold_M": bias_M - scale_M * gate_bias_M,
    }


def folded_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Activations multiplied by their decoder rows' norms, the rows made unit vectors: the output stays as it is."""
    norm_M = tensors["decoder_MO"].norm(dim=1)
    folded = dict(tensors)
    folded["encoder_MD"] = tensors["encoder_MD"] * norm_M[:, None]
    folded["decoder_MO"] = tensors["decoder_MO"] / norm_M[:, None]
    for name in ("encoder_bias_M", "threshold_M"):
        if name in tensors:
            folded[name] = tensors[name] * norm_M
    return folded
