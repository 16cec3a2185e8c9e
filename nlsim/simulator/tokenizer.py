"""The simulator's vocabulary: byte-level BPE learned from training documents and from the words of explanations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nlsim.explain.quote import SPACE, visible
from nlsim.simulator.text import SPECIAL

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORDS = (
    " The latent feature neuron fires is active on tokens token words word such as like and similar related in texts"
    " text about with where when after before near the or of other more less strong weak often always never"
)
_REPEATS = 2000


def train_tokenizer(documents: Iterable[str], size: int) -> Tokenizer:
    """A tokenizer of `size` tokens. Digits stand alone; special tokens come first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(documents), trainer)
    return tokenizer


def _texts(documents: Iterable[str]) -> Iterator[str]:
    for text in documents:
        yield re.sub(r" +(?= )", lambda run: SPACE * len(run[0]), visible(text))
    for _ in range(_REPEATS):
        yield _WORDS
