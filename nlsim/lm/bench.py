"""How fast a language model answers on this machine, and how fast its arithmetic could be."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nlsim.errors import UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.cost import Work, alone_work, shape_of, shared_work
from nlsim.lm.engine import load_engine
from nlsim.lm.prompts import PromptTree, leaf

if TYPE_CHECKING:
    from nlsim.lm.engine import Engine

CHOICES = range(10)


class Prompts(NamedTuple):
    """Sizes of random prompts, in tokens."""

    prefix: int
    explanation: int
    suffix: int
    texts: int

    def trees(self, vocabulary: int, seed: int = 0) -> Iterator[PromptTree]:
        """Endless tries, one per explanation, with the same texts."""
        rng = np.random.default_rng(seed)
        nothing = np.empty(0, dtype=np.int64)
        prefix = rng.integers(vocabulary, size=self.prefix)
        leaves = tuple(leaf(rng.integers(vocabulary, size=self.suffix)) for _ in range(self.texts))
        while True:
            yield PromptTree(np.concatenate([prefix, rng.integers(vocabulary, size=self.explanation)]), nothing, leaves)

    def work(self, trees: list[PromptTree]) -> Work:
        """What these tries cost when what they share is computed once: explanations per trie, instructions once."""
        shared, again = shared_work(trees), len(trees) - 1
        pairs = self.prefix * (self.prefix + 1) // 2
        return shared._replace(tokens=shared.tokens - again * self.prefix, pairs=shared.pairs - again * pairs)


class Measurement(NamedTuple):
    """Result of `measure`."""

    facts: dict[str, str]
    device: str
    predictions: int
    seconds: float
    predictions_per_s: float
    flops_per_s: float
    """Of the prompts' arithmetic with every shared prefix once."""
    peak_flops_per_s: float
    """Of matrix products of the model's shapes alone, in the same precision."""
    memory_bytes: int
    """Most memory: of the GPU if there is one, else of the process."""
    saved: float
    """Arithmetic without sharing, in multiples of that with it."""

    @property
    def roofline(self) -> float:
        """Part of the arithmetic that this machine could do in the time."""
        return self.flops_per_s / self.peak_flops_per_s


def measure(config: LmConfig, prompts: Prompts, seconds: float) -> Measurement:
    """Load a model and measure it for about `seconds`. Raises UsageError for an endpoint."""
    if config.endpoint.base_url or config.engine == "openai":
        raise UsageError("a server's speed is not this machine's", "leave lm.endpoint out")
    with closing(load_engine(config)) as engine:
        tokenizer: Any = engine.tokenizer
        return measure_engine(
            engine, getattr(engine, "model", None) or _outline(config), len(tokenizer), prompts, seconds
        )


def measure_engine(engine: Engine, model: Any, vocabulary: int, prompts: Prompts, seconds: float) -> Measurement:
    """Measure an engine that runs `model` on random prompts, after a warm-up."""
    trees = prompts.trees(vocabulary)
    for _ in range(2):  # the first compiles and allocates, the second tells how many to run
        started = time.perf_counter()
        next(engine.choose([next(trees)], CHOICES))
        once = time.perf_counter() - started
    chosen = [next(trees) for _ in range(max(2, int(seconds / once)))]
    started = time.perf_counter()
    predictions = sum(len(found.logprobs_RC) for found in engine.choose(chosen, CHOICES))
    took = time.perf_counter() - started
    shape = shape_of(model)
    flops = shape.flops(prompts.work(chosen))
    return Measurement(
        facts=engine.facts(),
        device=_device(model),
        predictions=predictions,
        seconds=took,
        predictions_per_s=predictions / took,
        flops_per_s=flops / took,
        peak_flops_per_s=matrix_rate(model),
        memory_bytes=_memory(),
        saved=shape.flops(alone_work(chosen)) / flops,
    )


def matrix_rate(model: Any, rows: int = 4096, repeats: int = 20) -> float:
    """Floating-point operations per second of the model's largest matrix products: the best of `repeats`."""
    import torch

    config = model.config.get_text_config()
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    device = "cuda" if torch.cuda.is_available() and model.device.type != "cpu" else "cpu"
    dtype = model.dtype if model.device.type != "meta" else torch.float32
    x = torch.randn(rows if device == "cuda" else rows // 2, config.hidden_size, dtype=dtype, device=device)
    up, down = (torch.randn(a, b, dtype=dtype, device=device) for a, b in ((wide, x.shape[1]), (x.shape[1], wide)))
    best = float("inf")
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        x @ up.T @ down.T
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 4.0 * x.shape[0] * x.shape[1] * wide / best


def _outline(config: LmConfig) -> Any:
    """The model's structure without weights, for engines that keep the model elsewhere."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from nlsim.lm.loading import place_of

    location = place_of(config, config.model)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(location.path, revision=location.revision, trust_remote_code=False)
        )


def _device(model: Any) -> str:
    import torch

    from nlsim.lm.loading import hardware

    elsewhere = model.device.type == "meta" and torch.cuda.is_available()
    return hardware(torch.device("cuda") if elsewhere else model.device)


def _memory() -> int:
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + children) * 1024
