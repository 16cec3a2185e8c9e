"""A run: one configuration carried out at one place.

`<run>/config.yaml` and `<run>/lineage.json` are written once, before anything else. The lineage names each stage's
fingerprint and shard count, so that a container that runs one shard needs nothing but the run's URL. Outputs of stages
lie at `<store>/<stage>/<fingerprint>/`, where the store is the run itself unless the run shares another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nlsim.base import Section, canonical_json
from nlsim.errors import DataError, UsageError
from nlsim.foreign import yaml_of
from nlsim.pipeline import registry
from nlsim.store.objects import DamagedObjectError, MissingObjectError, open_objects

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
    config_sha256: str = ""
    """Of `config.yaml`: fingerprints stand for one configuration alone. Empty in runs made before it was noted."""

    def to_bytes(self) -> bytes:
        """The lineage as it is stored: JSON that carries a SHA-256 of itself."""
        plain = self.model_dump(mode="json")
        return (json.dumps({**plain, "sha256": _sha256(canonical_json(plain))}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Lineage:
        """Parse a stored lineage. Raises ValueError and the like for anything that `to_bytes` did not write."""
        plain = json.loads(data)
        seal = plain.pop("sha256", None)
        if seal not in (None, _sha256(canonical_json(plain))):
            raise ValueError("its SHA-256 does not match its content")
        return cls.model_validate(plain)


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
        text = config.to_yaml().encode()
        if not files.put_if_absent(CONFIG, text):
            if update:
                files.put(CONFIG, text)
            else:
                text = files.get(CONFIG)
                made = cls.stored_config(files, text)
                if made != config:
                    changed = ", ".join(made.differences(config)[:4])
                    raise UsageError(
                        f"{url} was made from another configuration (changed: {changed})",
                        "choose another --run, or add --update to move this run to the new one",
                    )
        lineage = Lineage(experiment=pipeline.name, store=store, stages=stages, config_sha256=_sha256(text))
        old = cls._lineage_before(files, update)
        if old is not None:
            if store is None and old.store is not None:
                lineage = lineage.model_copy(update={"store": old.store})
            if old.model_copy(update={"config_sha256": lineage.config_sha256}) != lineage and not update:
                moved = [name for name in stages if old.stages.get(name) != stages[name]] or ["store"]
                raise UsageError(
                    f"{url}: what {', '.join(moved)} reads or how it is computed has changed since the run was made",
                    "choose another --run, or add --update to recompute what is affected",
                )
        files.put(LINEAGE, lineage.to_bytes())
        return cls(url, config, pipeline, lineage, files, open_objects(lineage.store) if lineage.store else files)

    @classmethod
    def open(cls, url: str) -> Run:
        """Open an existing run. Raises UsageError when there is none at `url`, DataError when its files do not fit."""
        files = open_objects(url)
        try:
            text, lineage = files.get(CONFIG), cls.stored_lineage(files)
        except MissingObjectError:
            raise UsageError(
                f"no run at {url}", "start one with `nlsim run CONFIG --run URL` or `nlsim plan`"
            ) from None
        if lineage.config_sha256 not in ("", _sha256(text)):
            raise DataError(
                f"{files.url}/{CONFIG} is not the configuration that {LINEAGE} was made for: it was altered, or an "
                "--update was cut short",
                "`nlsim run CONFIG --run URL --update` with the run's configuration",
            )
        config = cls.stored_config(files, text)
        store = open_objects(lineage.store) if lineage.store else files
        return cls(url, config, registry.pipeline_of(config), lineage, files, store)

    @staticmethod
    def stored_config(files: Objects, text: bytes) -> Config:
        """The configuration stored with a run, from its text. Raises DataError when it cannot be read."""
        from nlsim.config import parse_config

        try:
            return parse_config(yaml_of(text))
        except (UsageError, ValueError, RecursionError) as error:
            raise DataError(
                f"{files.url}/{CONFIG} cannot be read by this version of nlsim ({error})",
                "use the version that made the run, or start a new run",
            ) from error

    @staticmethod
    def stored_lineage(files: Objects) -> Lineage:
        """The lineage stored with a run. Raises MissingObjectError, and DataError when it cannot be read."""
        try:
            return Lineage.from_bytes(files.get(LINEAGE))
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise DataError(
                f"{files.url}/{LINEAGE} is damaged",
                "`nlsim run CONFIG --run URL --update` with the run's configuration (and --store, if it shares one)",
            ) from error

    @classmethod
    def _lineage_before(cls, files: Objects, update: bool) -> Lineage | None:
        """The lineage that is there; with `update` a damaged one is none."""
        try:
            return cls.stored_lineage(files)
        except MissingObjectError:
            return None
        except DataError:
            if not update:
                raise
            return None

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

    def check_published(self, repair: bool = False) -> list[str]:
        """One line for each published copy that is not what its stage committed. With `repair` they are made again."""
        lines = []
        for stage in self.pipeline.stages:
            artifact = self.artifact(stage.name)
            if not stage.publishes or not artifact.complete:
                continue
            try:
                committed = artifact.record(0).objects
            except DamagedObjectError:  # `Artifact.verify` says so
                continue
            wrong = [key for name, key in stage.publishes.items() if self._sha256_of(key) != committed[name].sha256]
            if wrong and repair:
                self.publish(stage.name)
            lines += [f"{self.files.url}/{key} is not what the stage {stage.name} committed" for key in wrong]
        return lines

    def _sha256_of(self, key: str) -> str:
        """Of a file of the run; "" where there is none."""
        try:
            return _sha256(self.files.get(key))
        except MissingObjectError:
            return ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
