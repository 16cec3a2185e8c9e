"""The same work once more under changed settings: how one run holds several kinds of explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config

T = TypeVar("T")


class Variant(Stage):
    """`stage` as the kind `kind` sees it: called `<stage>-<kind>`, run under `Config.of_kind`, its inputs taken from
    the kind's own variants where it has them."""

    def __init__(self, stage: Stage, kind: str, own: Mapping[str, str]) -> None:
        """`own`: names of stages → names of the kind's variants of them."""
        self.name = f"{stage.name}-{kind}"
        self.inputs = tuple(own.get(name, name) for name in stage.inputs)
        self.splits = stage.splits
        self.stage, self.kind = stage, kind

    def shards(self, config: Config) -> int:
        return self.stage.shards(config.of_kind(self.kind))

    def resources(self, config: Config) -> Resources:
        return self.stage.resources(config.of_kind(self.kind))

    def estimate(self, config: Config) -> Estimate:
        return self.stage.estimate(config.of_kind(self.kind))

    def fingerprint(self, config: Config, inputs: Mapping[str, str]) -> str:
        """That of the stage itself in a run whose configuration is the kind's."""
        return self.stage.fingerprint(config.of_kind(self.kind), self._renamed(inputs))

    def execute(self, context: StageContext) -> None:
        kind = context.config.of_kind(self.kind)
        self.stage.execute(replace(context, config=kind, inputs=self._renamed(context.inputs)))

    def _renamed(self, values: Mapping[str, T]) -> dict[str, T]:
        return {name: values[mine] for name, mine in zip(self.stage.inputs, self.inputs, strict=True)}


def with_kinds(config: Config, chain: Callable[[Config], Sequence[Stage]]) -> list[Stage]:
    """The stages of `chain(config)`, then for each kind of `config` those whose work the kind changes.

    A stage that a kind leaves as it is (the scores of a kind that only simulates otherwise, say) is shared, not
    repeated. `chain` gives the stages in order; which ones may depend on the configuration.
    """
    base = {stage.name: stage for stage in chain(config)}
    stages = list(base.values())
    for kind in config.kinds:
        mine = config.of_kind(kind)
        own: dict[str, str] = {}
        for stage in chain(mine):
            variant = Variant(stage, kind, own)
            same = base.get(stage.name)
            if same is None or same.inputs != variant.inputs or same.settings(config) != stage.settings(mine):
                own[stage.name] = variant.name
                stages.append(variant)
    return stages


def of_kind(named: Mapping[str, T], kind: str) -> dict[str, T]:
    """Things named after stages, as `kind` sees them: under each stage's name that of the kind's variant, if any."""
    return {name: named.get(f"{name}-{kind}", value) for name, value in named.items()}
