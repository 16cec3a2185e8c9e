"""Vectors made of a known dictionary, for trainers to find again."""

import torch

from nlsim.coders.sparse import SparseCoder
from nlsim.coders.trainer import Pair, unit

D, LATENTS, ACTIVE = 16, 24, 2


class World:
    """Sparse sums of known directions: inputs Σ a_i e_i, targets Σ a_i f_i + x·L, plus constant offsets."""

    def __init__(self, linear: bool = False) -> None:
        generator = torch.Generator().manual_seed(7)
        self.generator = generator
        self.read_LD = unit(torch.randn(LATENTS, D, generator=generator))
        self.write_LD = unit(torch.randn(LATENTS, D, generator=generator))
        self.linear_DD = 0.3 * torch.randn(D, D, generator=generator) if linear else torch.zeros(D, D)

    def sample(self, n: int) -> Pair:
        chosen_NA = torch.rand(n, LATENTS, generator=self.generator).topk(ACTIVE, dim=1).indices
        size_NA = 1 + torch.rand(n, ACTIVE, generator=self.generator)
        z_NL = torch.zeros(n, LATENTS).scatter(1, chosen_NA, size_NA)
        x_ND = z_NL @ self.read_LD + 3.0
        return Pair(x_ND, z_NL @ self.write_LD + x_ND @ self.linear_DD.T - 2.0)


def fvu(coder: SparseCoder, pair: Pair) -> float:
    """Fraction of the targets' variance that a coder leaves unexplained."""
    y_NO = coder.decode(coder.encode(pair.input_ND), pair.input_ND)
    return float((pair.target_NO - y_NO).square().sum() / (pair.target_NO - pair.target_NO.mean(0)).square().sum())
