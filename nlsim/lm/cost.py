"""What answering tries of prompts costs: tokens, and floating-point operations, with and without sharing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from nlsim.lm.prompts import PromptTree, walk


class Work(NamedTuple):
    """What a forward pass over prompts has to do."""

    tokens: int
    """Tokens that go through the layers."""
    pairs: int
    """Pairs of a token and one that it attends."""
    reads: int
    """Distributions read."""

    def __add__(self, other: tuple[Any, ...]) -> Work:
        return Work(*(mine + its for mine, its in zip(self, other, strict=True)))


def shared_work(trees: Iterable[PromptTree]) -> Work:
    """Every shared prefix of each trie once."""
    total = Work(0, 0, 0)
    for tree in trees:
        for node in walk(tree):
            n = len(node.tree.tokens)
            total += Work(n, n * node.depth + n * (n + 1) // 2, len(node.tree.reads))
    return total


def alone_work(trees: Iterable[PromptTree]) -> Work:
    """Every prompt from its first token: one forward pass per node with reads."""
    total = Work(0, 0, 0)
    for tree in trees:
        for node in walk(tree):
            if len(node.tree.reads):
                n = node.depth + len(node.tree.tokens)
                total += Work(n, n * (n + 1) // 2, len(node.tree.reads))
    return total


class Shape(NamedTuple):
    """The sizes of a decoder that decide its cost."""

    parameters: int
    """In the layers' matrices: without embedding and head."""
    layers: int
    width: int
    """Heads times their size."""
    hidden: int
    vocabulary: int

    def flops(self, work: Work, full_head: bool = True) -> float:
        """Operations of `work`: 2 per parameter and token, 4 per attended pair, layer and width, and the head."""
        head = 2.0 * self.hidden * self.vocabulary * work.reads if full_head else 0.0
        return 2.0 * self.parameters * work.tokens + 4.0 * self.layers * self.width * work.pairs + head


def shape_of(model: Any) -> Shape:
    """The shape of a transformers causal language model."""
    config = model.config.get_text_config()
    decoder = model.get_decoder()
    outside = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
    inside = sum(p.numel() for p in decoder.parameters() if p.ndim > 1 and id(p) not in outside)
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(inside, config.num_hidden_layers, heads * size, config.hidden_size, config.vocab_size)


def explanation_first(explanations: int, texts: int, explanation: float, text: float, tail: float = 0.0) -> bool:
    """Whether prompts that put the explanation before the text cost fewer tokens than the other order.

    Every explanation (on average `explanation` tokens) meets every text (`text` tokens), and `tail` tokens follow both.
    What comes first is computed once per item, what comes second once per pair.
    """
    first = explanations * explanation + explanations * texts * (text + tail)
    second = texts * text + explanations * texts * (explanation + tail)
    return first <= second
