"""Initial weights that already hold the core skill: look the token up in the explanation's table, read its level.

Learning this from random weights takes most of a training run; writing it down takes none. The residual stream is laid
out as one constant, `CODE` dimensions for levels, and the rest for what a token is. In the first layer two heads look
one and two tokens back and copy the level that stands there onto the quoted token. In the second layer heads match
tokens by what they are and copy the level from the explanation to the text. Training is free to change all of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nlsim.simulator.model import Block, Simulator
from nlsim.simulator.text import LEVELS, WORDS, SimulatorText, level

CODE = 16
CONSTANT = 3.0
SHARP = 6.3
"""Size of the queries and keys of a head that looks back by position: neighbours get e⁻⁴ of its weight."""
MATCH = 2.2
"""Size of the queries and keys of a head that matches tokens."""
NEAR_PAIRS = 6
"""Rotary pairs that turn too fast to compare tokens far apart."""


def initialise(model: Simulator, text: SimulatorText, meaning_VK: Tensor, seed: int = 0) -> None:
    """Write the circuit. `meaning_VK`: what each token is, [vocabulary, width - 1 - CODE], rows of any scale."""
    made = torch.Generator().manual_seed(seed)
    width = model.shape.width
    known = meaning_VK.norm(dim=1, keepdim=True)
    random_VK = torch.randn(meaning_VK.shape, generator=made)
    meaning_VK = torch.where(known > 0, meaning_VK / known.clamp(min=1e-6) * math.sqrt(meaning_VK.shape[1]), random_VK)
    embedding = torch.zeros(model.shape.vocabulary, width)
    embedding[:, 0] = CONSTANT
    embedding[:, 1 + CODE :] = meaning_VK
    for token in LEVELS:
        embedding[text.special[token], 1 : 1 + CODE] = level_code(token)
    for token in text.special:
        if token not in LEVELS:
            embedding[text.special[token], 1 : 1 + CODE] = 0.5 * torch.randn(CODE, generator=made)
    with torch.no_grad():
        model.embedding.copy_(embedding)
        model.head[-1, 0] = -4.0  # tokens that are no answer are improbable from the start
        model.head[0, 0] = 1.5  # and 0 is the commonest answer
        first, second = model.blocks[0], model.blocks[1]
        assert isinstance(first, Block)  # noqa: S101 - for the type checker
        assert isinstance(second, Block)  # noqa: S101
        for head, back in enumerate((1, 2)):
            _look_back(first, head, back, model.shape.theta)
        for head in range(model.shape.heads - 1):
            _match(second, head, made)


def level_code(token: str) -> Tensor:
    """A level as smooth bumps over its expected strength and over its strength when active, so that like levels are
    alike."""
    word = next(word for word in WORDS if token.startswith(f"<|{word}"))
    strength = int(token[-3]) if token[-3].isdigit() else 1
    frequency = WORDS.index(word) / (len(WORDS) - 1)
    mean = math.sqrt(frequency**1.7 * strength / 9)
    assert level(word, strength) == token  # noqa: S101
    grid = torch.linspace(0, 1, CODE // 2)
    bumps = [torch.exp(-(((grid - x) / 0.15) ** 2) / 2) for x in (mean, strength / 9)]
    return 2.0 * torch.cat(bumps)


def _values(block: Block, head: int, gain: float) -> None:
    """The head copies the code dimensions, and nothing else."""
    size = block.q.shape[0] // block.heads
    rows = slice(head * size, (head + 1) * size)
    block.v[rows] = 0
    block.o[:, rows] = 0
    for i in range(CODE):
        block.v[head * size + i, 1 + i] = 1
        block.o[1 + i, head * size + i] = gain


def _look_back(block: Block, head: int, back: int, theta: float) -> None:
    """Attend to the token `back` places before: queries and keys are constants, and their rotation does the rest."""
    size = block.q.shape[0] // block.heads
    rows = slice(head * size, (head + 1) * size)
    block.q[rows] = 0
    block.k[rows] = 0
    frequency = theta ** (-torch.arange(0, size, 2).float() / size)
    for i in range(size // 2):
        turn = back * float(frequency[i])
        block.q[head * size + i, 0] = SHARP / CONSTANT
        block.k[head * size + i, 0] = SHARP / CONSTANT * math.cos(turn)
        block.k[head * size + size // 2 + i, 0] = SHARP / CONSTANT * math.sin(turn)
    _values(block, head, gain=1.0)


def _match(block: Block, head: int, made: torch.Generator) -> None:
    """Attend to tokens that are alike: queries and keys are the same projection of what a token is."""
    width = block.q.shape[0]
    size = width // block.heads
    rows = slice(head * size, (head + 1) * size)
    block.q[rows] *= 0.2
    block.k[rows] *= 0.2
    slow = [i for i in range(size // 2) if i >= NEAR_PAIRS]
    for i in [*slow, *(i + size // 2 for i in slow)]:
        projection = torch.randn(width, generator=made) * MATCH / math.sqrt(width)
        projection[: 1 + CODE] = 0
        block.q[head * size + i] = projection
        block.k[head * size + i] = projection
    _values(block, head, gain=1.0)
