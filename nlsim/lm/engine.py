"""What every engine can do, and the choice between them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from nlsim import log
from nlsim.errors import UsageError
from nlsim.lm.config import LmConfig
from nlsim.lm.prompts import IntArray, PromptTree
from nlsim.plugins import is_plugin, load_plugin

if TYPE_CHECKING:
    from nlsim.lm.templates import Tokenizer


QUANTIZED = re.compile(r"awq|gptq|fp8|int4|int8|w4a16|w8a8|w8a16|nvfp4", re.IGNORECASE)
"""What names of quantized checkpoints hold."""


class Choices(NamedTuple):
    """Answers of one trie, in its depth-first order."""

    logprobs_RC: npt.NDArray[np.float32]
    """Log-probability of each choice as the next token, over the *full* vocabulary, at temperature 1. The mass
    `exp(logprobs_RC).sum(1)` is what the choices hold together; −inf where an endpoint did not tell."""

    @property
    def mass_R(self) -> npt.NDArray[np.float32]:
        """Probability that the next token is one of the choices."""
        mass: npt.NDArray[np.float32] = np.exp(self.logprobs_RC).sum(axis=1, dtype=np.float32)
        return mass


class Generation(NamedTuple):
    """Text written after one prompt."""

    text: str
    tokens: int
    """Tokens written."""
    finished: bool
    """Whether the model ended by itself or at a stop string, rather than at the limit."""


class Sampling(NamedTuple):
    """How text is written."""

    max_tokens: int
    """Longest answer."""
    temperature: float = 0.0
    """0: the likeliest token at every step; else sampled."""
    seed: int = 0
    """Equal seeds give equal texts per prompt."""
    stop: tuple[str, ...] = ()
    """Strings at which an answer ends; they are not part of it."""


class Engine(Protocol):
    """A language model that answers prompts."""

    @property
    def name(self) -> str:
        """`packed`, `transformers`, `vllm` or `openai`."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns prompts into the token ids this engine takes."""

    def choose(self, trees: Iterable[PromptTree], choices: Sequence[int]) -> Iterator[Choices]:
        """For every trie, the log-probabilities of the tokens `choices` at every read, in bounded memory."""

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        """Continue every prompt."""

    def facts(self) -> dict[str, str]:
        """What produced the answers, for commit records: engine, model, precision, versions, counts, cost."""

    def close(self) -> None:
        """Give back memory, processes and connections. The engine is of no use afterwards."""


def load_engine(config: LmConfig) -> Engine:
    """Load the language model. Raises UsageError when the configuration or what is installed does not allow it."""
    if not config.model:
        raise UsageError("no language model is configured", "set lm.model: a folder, a hub name or smollm2-135m")
    name, why = pick(config)
    if config.engine == "auto":
        log.event("language model engine", engine=name, why=why)
    if is_plugin(name):
        engine: Engine = load_plugin("nlsim.backends", name)(config)
        return engine
    if name == "openai":
        from nlsim.lm.openai import OpenAIEngine

        return OpenAIEngine(config)
    if name == "vllm":
        from nlsim.lm.vllm import VllmEngine

        return VllmEngine(config)
    if name == "transformers":
        from nlsim.lm.plain import TransformersEngine

        return TransformersEngine(config)
    from nlsim.lm.packed import PackedEngine

    return PackedEngine(config)


def pick(config: LmConfig) -> tuple[str, str]:
    """The engine that `config` means, and why. Raises UsageError where `auto` finds none."""
    if config.engine != "auto":
        return config.engine, "configured"
    if config.endpoint.base_url:
        return "openai", "lm.endpoint.base_url is set"
    if not _installed("torch"):
        raise UsageError("no engine is installed", "install nlsim[model], or set lm.endpoint.base_url to a server")
    if _installed("vllm"):
        if quantization := quantization_of(config):
            return "vllm", f"the checkpoint is quantized ({quantization})"
        if config.vllm.tensor_parallel > 1:
            return "vllm", f"lm.vllm.tensor_parallel is {config.vllm.tensor_parallel}"
    from nlsim.lm.loading import device_of, hardware

    return "packed", f"computes every shared prefix once; runs on {hardware(device_of(config))}"


def quantization_of(config: LmConfig) -> str | None:
    """How the checkpoint is quantized: as configured, as its own config.json says, or as a hub name tells."""
    from nlsim.errors import NlsimError
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.locate import locate

    if config.vllm.quantization:
        return config.vllm.quantization
    try:
        location = locate(SubjectConfig(model=config.model, revision=config.revision))
    except NlsimError:  # said in full when it is loaded
        return None
    if not location.local:
        named = QUANTIZED.search(config.model)
        return named[0].lower() if named else None
    described = json.loads((Path(location.path) / "config.json").read_text(encoding="utf-8"))
    method = (described.get("quantization_config") or {}).get("quant_method")
    return None if method is None else str(method)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
