"""A stage: a pure function from committed inputs to committed outputs, in shards that know nothing of each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from nlsim.base import digest, fingerprint_view
from nlsim.errors import TransientError

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.store.artifact import Artifact, ShardWriter


class Stopped(TransientError):
    """A stop was asked for. What is committed stays; the same command carries on from there."""

    def __init__(self) -> None:
        super().__init__("stopped on request", "run the same command again to carry on")


class Resources(NamedTuple):
    """What one shard needs."""

    image: Literal["cpu", "model", "vllm"] = "cpu"
    """Stage image: `cpu` carries no torch."""
    cpus: float = 1.0
    memory_gb: float = 2.0
    gpus: int = 0


class Estimate(NamedTuple):
    """What a whole stage will process and write, known from the configuration alone."""

    tokens: int = 0
    """Subject-model tokens."""
    predictions: int = 0
    """Language-model predictions read."""
    bytes: int = 0
    """Bytes written."""
    flops: float = 0.0
    """Floating-point operations of model forwards."""
    price: float = 0.0
    """What an endpoint will charge, in the currency of `lm.prices`."""


@dataclass(frozen=True)
class StageContext:
    """What a stage's `execute` is given."""

    config: Config
    shard: int
    shards: int
    inputs: Mapping[str, Artifact]
    """Complete artifacts of the stages named in `Stage.inputs`."""
    output: ShardWriter
    """Where this shard writes; the runner commits it after `execute` returns."""
    report: Callable[[int, int, str], None]

    def progress(self, done: int, total: int, unit: str) -> None:
        """Tell how far this shard is. Call it in every inner loop: raises `Stopped` when a stop was asked for."""
        self.report(done, total, unit)


class Stage(ABC):
    """One step of a pipeline. Subclasses import heavy packages only inside `execute`."""

    name: str
    version: int = 1
    """Raise it when the meaning or form of the output changes: it is part of the fingerprint."""
    sections: tuple[str, ...] = ()
    """Dotted paths of the configuration it reads."""
    inputs: tuple[str, ...] = ()
    """Names of the stages whose artifacts it reads."""
    splits: tuple[str, ...] = ()
    """Splits of the corpus without whose rows it has nothing to do."""
    publishes: ClassVar[Mapping[str, str]] = {}
    """Objects of shard 0 that are copied to the run's own folder after the commit: object name → key in the run."""

    @abstractmethod
    def shards(self, config: Config) -> int:
        """How many shards; follows from the configuration alone."""

    @abstractmethod
    def execute(self, context: StageContext) -> None:
        """Compute one shard and write it through `context.output`."""

    def resources(self, config: Config) -> Resources:  # noqa: ARG002 - subclasses look at the configuration
        """What one shard needs."""
        return Resources()

    def estimate(self, config: Config) -> Estimate:  # noqa: ARG002
        """What the whole stage will process."""
        return Estimate()

    def identity(self, config: Config) -> Mapping[str, str]:  # noqa: ARG002
        """Content identity of inputs outside the store, e.g. the SHA-256 of a text file."""
        return {}

    def settings(self, config: Config) -> dict[str, object]:
        """What of the configuration determines the output, as plain JSON."""
        return {path: fingerprint_view(config.at(path)) for path in self.sections}

    def fingerprint(self, config: Config, inputs: Mapping[str, str]) -> str:
        """Name of this stage's output: changes exactly when something that determines the output changes."""
        return digest(
            {
                "stage": self.name,
                "version": self.version,
                "config": self.settings(config),
                "inputs": {name: inputs[name] for name in self.inputs},
                "identity": dict(self.identity(config)),
            }
        )
