"""A run: one configuration carried out at one place.

`<run>/config.yaml` and `<run>/lineage.json` are written once, before anything else. The lineage names each stage's
fingerprint and shard count, so that a container that runs one shard needs nothing but the run's URL. Outputs of stages
lie at `<store>/<stage>/<fingerprint>/`, where the store is the run itself unless the run shares another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from nlsim.base import Section
from nlsim.errors import DataError, UsageError
from nlsim.pipeline import registry
from nlsim.store.objects import open_objects

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.pipeline import Pipeline
    from nlsim.store.artifact import Artifact
    from nlsim.store.objects import Objects

CONFIG = "config.yaml"
LINEAGE = "lineage.json"


class StageLineage(Section):
    """Where one stage's output lies."""

    fingerprint: str
    shards: int
    inputs: tuple[str, ...]


class Lineage(Section):
    """What `lineage.json` holds."""

    schema_version: int = 1
    experiment: str
    store: str | None = None
    """URL of a store shared between runs; null: the run itself."""
    stages: Mapping[str, StageLineage]

    def to_bytes(self) -> bytes:
        return (json.dumps(self.model_dump(mode="json"), indent=1) + "\n").encode()


@dataclass
class Run:
    """A run that was opened or created."""

    url: str
    config: Config
    pipeline: Pipeline
    lineage: Lineage
    files: Objects
    """The run's own folder."""
    store: Objects
    """Where the stages' outputs are."""
    _artifacts: dict[str, Artifact] = field(default_factory=dict)

    @classmethod
    def create(cls, url: str, config: Config, store: str | None = None, update: bool = False) -> Run:
        """Open the run at `url`, making it if there is none.

        Raises UsageError when a run is there already that was made from another configuration, unless `update`: then
        the run moves to the new configuration and reuses every stage that it leaves unchanged.
        """
        pipeline = registry.pipeline_of(config)
        files = open_objects(url)
        stages = {
            name: StageLineage(fingerprint=plan.fingerprint, shards=plan.shards, inputs=plan.stage.inputs)
            for name, plan in pipeline.planned(config).items()
        }
        lineage = Lineage(experiment=pipeline.name, store=store, stages=stages)
        text = config.to_yaml().encode()
        if not files.put_if_absent(CONFIG, text):
            made = cls.stored_config(files)
            if made != config:
                changed = ", ".join(made.differences(config)[:4])
                if not update:
                    raise UsageError(
                        f"{url} was made from another configuration (changed: {changed})",
                        "choose another --run, or add --update to move this run to the new one",
                    )
                files.put(CONFIG, text)
        if files.info(LINEAGE) is not None:
            old = cls.stored_lineage(files)
            if store is None and old.store is not None:
                lineage = lineage.model_copy(update={"store": old.store})
            if old != lineage and not update:
                moved = [name for name in stages if old.stages.get(name) != stages[name]] or ["store"]
                raise UsageError(
                    f"{url}: what {', '.join(moved)} reads or how it is computed has changed since the run was made",
                    "choose another --run, or add --update to recompute what is affected",
                )
        files.put(LINEAGE, lineage.to_bytes())
        return cls(url, config, pipeline, lineage, files, open_objects(lineage.store) if lineage.store else files)

    @classmethod
    def open(cls, url: str) -> Run:
        """Open an existing run. Raises UsageError when there is none at `url`."""
        files = open_objects(url)
        if files.info(CONFIG) is None or files.info(LINEAGE) is None:
            raise UsageError(f"no run at {url}", "start one with `nlsim run CONFIG --run URL` or `nlsim plan`")
        config = cls.stored_config(files)
        lineage = cls.stored_lineage(files)
        store = open_objects(lineage.store) if lineage.store else files
        return cls(url, config, registry.pipeline_of(config), lineage, files, store)

    @staticmethod
    def stored_config(files: Objects) -> Config:
        """The configuration stored with a run. Raises DataError when it cannot be read."""
        from nlsim.config import parse_config

        try:
            return parse_config(yaml.safe_load(files.get(CONFIG)))
        except (UsageError, yaml.YAMLError) as error:
            raise DataError(
                f"{files.url}/{CONFIG} cannot be read by this version of nlsim ({error})",
                "use the version that made the run, or start a new run",
            ) from error

    @staticmethod
    def stored_lineage(files: Objects) -> Lineage:
        """The lineage stored with a run. Raises DataError when it cannot be read."""
        try:
            return Lineage.model_validate_json(files.get(LINEAGE))
        except ValueError as error:
            raise DataError(f"{files.url}/{LINEAGE} is damaged", "start the run again with --update") from error

    def artifact(self, stage: str) -> Artifact:
        """The output of `stage` in this run, complete or not. Raises UsageError for a stage it does not have."""
        from nlsim.store.artifact import Artifact

        if stage not in self._artifacts:
            entry = self.lineage.stages.get(self.pipeline.stage(stage).name)
            if entry is None:
                raise DataError(f"{self.url} was planned without the stage {stage}", "run it again with --update")
            self._artifacts[stage] = Artifact(self.store, stage, entry.fingerprint, entry.shards)
        return self._artifacts[stage]

    def publish(self, stage: str) -> list[str]:
        """Copy what `stage` publishes into the run's own folder; returns the keys."""
        published = self.pipeline.stage(stage).publishes
        artifact = self.artifact(stage)
        for name, key in published.items():
            self.files.put(key, artifact.path(0, name))
        return list(published.values())
