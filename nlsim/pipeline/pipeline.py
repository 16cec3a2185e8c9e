"""A pipeline: stages in an order in which each one's inputs come before it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple

from nlsim.errors import UsageError

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.stage import Stage


class Planned(NamedTuple):
    """One stage of a planned pipeline."""

    stage: Stage
    fingerprint: str
    shards: int


@dataclass(frozen=True)
class Pipeline:
    """`stages` in topological order. Raises ValueError when an input is missing, late or named twice."""

    name: str
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        known: set[str] = set()
        for stage in self.stages:
            late = set(stage.inputs) - known
            if late or stage.name in known:
                raise ValueError(f"stage {stage.name}: inputs {sorted(late)} must come before it, and once")
            known.add(stage.name)

    def stage(self, name: str) -> Stage:
        """The stage called `name`. Raises UsageError naming the nearest one."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        near = get_close_matches(name, names, 1)
        raise UsageError(
            f"pipeline {self.name} has no stage {name!r}",
            f"did you mean {near[0]}?" if near else f"its stages are {', '.join(names)}",
        )

    def until(self, name: str) -> Pipeline:
        """The stages that `name` needs, and `name` itself."""
        needed = {self.stage(name).name}
        for stage in reversed(self.stages):
            if stage.name in needed:
                needed.update(stage.inputs)
        return Pipeline(self.name, tuple(stage for stage in self.stages if stage.name in needed))

    def planned(self, config: Config) -> dict[str, Planned]:
        """Fingerprint and shard count of each stage under `config`, in order."""
        plan: dict[str, Planned] = {}
        fingerprints: dict[str, str] = {}
        for stage in self.stages:
            fingerprints[stage.name] = stage.fingerprint(config, fingerprints)
            plan[stage.name] = Planned(stage, fingerprints[stage.name], stage.shards(config))
        return plan
