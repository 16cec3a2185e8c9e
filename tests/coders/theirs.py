"""Other libraries' coders in tests: weights, inputs, and what reading them well means."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nlsim.coders.config import CoderConfig
from nlsim.coders.load import coder_meta, load_coder
from nlsim.coders.sparse import SparseCoder

D, M, N, K = 6, 32, 50, 4


def from_path(path: Path, hookpoint: str | None = "layers.0") -> SparseCoder:
    config = CoderConfig(path=str(path), hookpoint=hookpoint)
    coder = load_coder(config)
    assert coder_meta(config) == coder.meta
    return coder


def inputs(seed: int = 0) -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


def filled(module: nn.Module, seed: int = 0) -> Any:
    """The module with random weights, thresholds positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
            if name == "threshold":
                parameter.abs_()
    return module


def assert_equal(coder: SparseCoder, x_ND: Tensor, acts_NM: Tensor, y_NO: Tensor) -> None:
    """Both ways to decode, and encode, agree with another library's numbers."""
    codes = coder.encode(x_ND)
    z_NM = torch.zeros(len(x_ND), coder.meta.width).scatter_add(1, codes.index_NK, codes.value_NK)
    torch.testing.assert_close(z_NM, acts_NM, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(coder.decode(codes, x_ND), y_NO, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(coder.decode_dense(z_NM, x_ND), y_NO, atol=1e-5, rtol=1e-5)
