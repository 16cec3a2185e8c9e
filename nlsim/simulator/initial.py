"""Initial weights that already hold the core skill: look the token up in the explanation's table, answer with its
level.

Learning this from random weights takes most of a training run; writing it down takes none. The residual stream is laid
out as a constant, a filler, `CODE` dimensions for levels, and the rest for what a token is. In the first layer two
heads look one and two tokens back and copy the level that stands there onto the quoted token. In the second layer all
heads match tokens by what they are, quoted ones preferred, and copy the level from the explanation to the text; where
nothing matches, a token matches itself, which says nothing. The head answers with the level. Everything else starts at
zero effect, and training is free to change all of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nlsim.simulator.model import Block, Simulator
from nlsim.simulator.text import CONTEXTS, LEVELS, WORDS, SimulatorText

CODE = 16
RESERVED = 2 + CODE
"""Dimensions that do not say what a token is: 0 is constant, 1 a filler that gives levels the norm of other tokens."""
CONSTANT, FILLER = 3.0, 10.0
SHARP = 7.0
"""Score of the place a look-back head wants, less that of the place next to it: that one gets e⁻⁷ of its weight."""
FAST = 0.05
"""Radians per token of the rotary pairs that look-back heads use."""
MATCH = 24.0
"""Score of a token that matches itself."""
PREFERENCE = 5.0
"""Added score of quoted tokens."""
SLOW = 0.006
"""Rotary pairs that turn less than this per token can compare tokens hundreds of tokens apart."""
SHARES = (0.002, 0.009, 0.027, 0.065, 0.145, 0.3, 0.52, 0.77, 0.94)
"""Middles of the shares that `FREQUENCIES` names."""


def initialise(model: Simulator, text: SimulatorText, meaning_VK: Tensor, seed: int = 0) -> None:
    """Write the circuit. `meaning_VK`: what each token is, [vocabulary, width - RESERVED], rows of any scale."""
    made = torch.Generator().manual_seed(seed)
    known = meaning_VK.norm(dim=1, keepdim=True)
    meaning_VK = meaning_VK / known.clamp(min=1e-6) * math.sqrt(meaning_VK.shape[1])
    embedding = torch.zeros(model.shape.vocabulary, model.shape.width)
    embedding[:, 0] = CONSTANT
    embedding[:, 1] = torch.where(known[:, 0] > 0, 0.0, FILLER)
    embedding[:, RESERVED:] = meaning_VK
    for token, number in text.special.items():
        if token in LEVELS:
            embedding[number, 2:RESERVED] = level_code(token)
        elif token in CONTEXTS:  # to be told from levels, and from each other
            embedding[number, 2:RESERVED] = 0.3 * torch.randn(CODE, generator=made)
    with torch.no_grad():
        model.embedding.copy_(embedding)
        for block in model.blocks:
            assert isinstance(block, Block)  # noqa: S101 - for the type checker
            block.down.zero_()
            block.o.zero_()
        first, second = model.blocks[0], model.blocks[1]
        assert isinstance(first, Block)  # noqa: S101
        assert isinstance(second, Block)  # noqa: S101
        for head, back in enumerate((1, 2)):
            _look_back(first, head, back, model.shape.theta)
        for head in range(model.shape.heads):
            _match(second, head, model.shape.theta, made)
        model.head.copy_(_answers(model.shape.width))


def level_code(token: str) -> Tensor:
    """A level as smooth bumps over its frequency and over its strength, so that like levels are alike."""
    word, strength = _parts(token)
    grid = torch.linspace(0, 1, CODE // 2)
    places = (WORDS.index(word) / (len(WORDS) - 1), strength / 9)
    return 2.0 * torch.cat([torch.exp(-(((grid - place) / 0.15) ** 2) / 2) for place in places])


def _parts(token: str) -> tuple[str, int]:
    inner = token.strip("<|>").split(" ")
    return inner[0], int(inner[1]) if len(inner) > 1 else 1


def _answers(width: int) -> Tensor:
    """[11, width]: rows of the head that turn a code into the digits' log-probabilities, least squares over all
    levels."""
    digits = torch.arange(1.0, 10)
    codes, targets = [torch.zeros(CODE)] * 8, [_digits(0.025, 3.0)] * 8
    for token in LEVELS:
        word, strength = _parts(token)
        codes.append(level_code(token))
        targets.append(_digits(SHARES[WORDS.index(word)], float(strength)))
    a = torch.cat([torch.stack(codes), torch.full((len(codes), 1), CONSTANT)], 1)
    solution = torch.linalg.solve(a.T @ a + 0.1 * torch.eye(CODE + 1), a.T @ torch.stack(targets))
    head = torch.zeros(len(digits) + 2, width)
    head[:-1, 2:RESERVED] = solution[:-1].T
    head[:-1, 0] = solution[-1]
    head[-1, 0] = -20 / CONSTANT  # what is no answer is improbable from the start
    return head


def _digits(share: float, strength: float) -> Tensor:
    """Log-probabilities of the digits when a share of tokens fires at about a strength."""
    weight = torch.exp(-(((torch.arange(1.0, 10) - strength) / 1.2) ** 2) / 2) + 1e-3
    return torch.cat([torch.tensor([1 - share]), share * weight / weight.sum()]).log()


def _values(block: Block, head: int, gain: float) -> None:
    """The head copies the code dimensions, and nothing else."""
    size = block.q.shape[0] // block.heads
    block.v[head * size : (head + 1) * size] = 0
    for i in range(CODE):
        block.v[head * size + i, 2 + i] = 1
        block.o[2 + i, head * size + i] = gain


def _turns(size: int, theta: float) -> list[float]:
    """Radians per token of each rotary pair."""
    return [theta ** (-2 * i / size) for i in range(size // 2)]


def _look_back(block: Block, head: int, back: int, theta: float) -> None:
    """Attend to the token `back` places before: queries and keys are constants, and their rotation does the rest."""
    size = block.q.shape[0] // block.heads
    rows = slice(head * size, (head + 1) * size)
    block.q[rows] = 0
    block.k[rows] = 0
    # Pairs that turn slowly tell no neighbours apart; they would only magnify differences between the tokens' norms.
    turns = [turn for turn in _turns(size, theta) if turn > FAST]
    length = math.sqrt(SHARP * math.sqrt(size) / sum(1 - math.cos(turn) for turn in turns)) / CONSTANT
    for i, turn in enumerate(turns):
        block.q[head * size + i, 0] = length
        block.k[head * size + i, 0] = length * math.cos(back * turn)
        block.k[head * size + size // 2 + i, 0] = length * math.sin(back * turn)
    _values(block, head, gain=1.0)


def _match(block: Block, head: int, theta: float, made: torch.Generator) -> None:
    """Attend to tokens that are alike: queries and keys are the same projection of what a token is.

    The slowest pair compares nothing; there, keys hold how much level a token carries, which is what quoting gave it.
    """
    width = block.q.shape[0]
    size = width // block.heads
    block.q[head * size : (head + 1) * size] = 0
    block.k[head * size : (head + 1) * size] = 0
    slow = [i for i, turn in enumerate(_turns(size, theta)) if turn < SLOW]
    compared = [*slow[:-1], *(i + size // 2 for i in slow[:-1])]
    length = math.sqrt(MATCH * math.sqrt(size) / len(compared) / (width - RESERVED))
    for i in compared:
        projection = torch.randn(width - RESERVED, generator=made) * length
        block.q[head * size + i, RESERVED:] = projection
        block.k[head * size + i, RESERVED:] = projection
    typical = float(torch.stack([level_code(token) for token in LEVELS]).sum(1).mean())
    root = math.sqrt(PREFERENCE * math.sqrt(size))
    block.q[head * size + slow[-1], 0] = root / CONSTANT
    block.k[head * size + slow[-1], 2:RESERVED] = root / typical
    _values(block, head, gain=1.0 / block.heads)
