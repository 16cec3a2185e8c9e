"""How fast a language model answers on this machine, and how fast its arithmetic could be."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from nlsim.errors import UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.cost import alone_work, shape_of, shared_work
from nlsim.lm.engine import load_engine
from nlsim.lm.prompts import PromptTree, leaf


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


def measure(config: LmConfig, prompts: Prompts, seconds: float) -> Measurement:
    """Run random prompts for about `seconds` after a warm-up. Raises UsageError for an endpoint."""
    if config.endpoint.base_url or config.engine == "openai":
        raise UsageError("a server's speed is not this machine's", "leave lm.endpoint out")
    engine: Any = load_engine(config)
    vocabulary = len(engine.tokenizer)
    choices = list(range(10))
    trees = prompts.trees(vocabulary)
    started = time.perf_counter()
    next(engine.choose([next(trees)], choices))  # compiles, allocates, and tells how many to run
    once = time.perf_counter() - started
    count = max(2, int(seconds / once))
    chosen = [next(trees) for _ in range(count)]
    started = time.perf_counter()
    predictions = sum(len(found.logprobs_RC) for found in engine.choose(chosen, choices))
    took = time.perf_counter() - started
    shared = shared_work(chosen)
    again = count * prompts.prefix - prompts.prefix  # the instructions are computed once for all tries
    shared = shared._replace(tokens=shared.tokens - again, pairs=shared.pairs - (count - 1) * prompts.prefix**2 // 2)
    model = getattr(engine, "model", None) or _outline(config)
    shape = shape_of(model)
    flops = shape.flops(shared)
    return Measurement(
        facts=engine.facts(),
        device=_device(config),
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
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(location.path, revision=location.revision))


def _device(config: LmConfig) -> str:
    import torch

    from nlsim.lm.loading import device_of

    device = device_of(config)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads"


def _memory() -> int:
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + children) * 1024
