"""The configuration of a run: one section per package, read from YAML, overridden with `--set`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from nlsim.base import Section, fingerprint_view
from nlsim.blog.config import BlogConfig
from nlsim.calibrate.config import CalibrateConfig
from nlsim.coders.config import CoderConfig
from nlsim.continuations.config import ContinuationsConfig
from nlsim.corpus.config import CorpusConfig
from nlsim.errors import UsageError
from nlsim.explain.config import ExplainConfig
from nlsim.finetune.config import FinetuneConfig
from nlsim.foreign import yaml_of
from nlsim.latents.config import CacheConfig, IndexConfig, LatentsConfig
from nlsim.lm.config import LmConfig
from nlsim.reconstruct.config import ReconstructConfig
from nlsim.report.config import ReportConfig
from nlsim.score.config import ScoreConfig
from nlsim.simulate.config import SimulateConfig
from nlsim.subject.config import SubjectConfig

KindName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$")]
"""Short, and a part of names in a cluster."""


class Kind(Section):
    """A further kind of explanations: settings that differ from the run's own, section by section."""

    explain: dict[str, Any] = Field(default_factory=dict, description="Settings of `explain` that differ.")
    score: dict[str, Any] = Field(default_factory=dict, description="Settings of `score` that differ.")
    simulate: dict[str, Any] = Field(default_factory=dict, description="Settings of `simulate` that differ.")
    calibrate: dict[str, Any] = Field(default_factory=dict, description="Settings of `calibrate` that differ.")
    lm: dict[str, Any] = Field(
        default_factory=dict, description="Settings of `lm` that differ; see also the `lm` of the sections above."
    )


class Config(Section):
    """Everything that determines a run."""

    name: str = Field(description="Name of the run; its default place is runs/<name>.", pattern=r"^[A-Za-z0-9._-]+$")
    experiment: Literal["article", "blog", "finetune"] = Field(
        "article", description="Which pipeline of stages to carry out."
    )
    seed: int = Field(0, description="Seed of every random choice that has no seed of its own.", ge=0)
    corpus: CorpusConfig = Field(default_factory=CorpusConfig, description="The text.")
    subject: SubjectConfig = Field(description="The model under study.")
    coder: CoderConfig = Field(description="The sparse coder whose latents are explained.")
    cache: CacheConfig = Field(default_factory=CacheConfig, description="Caching of sparse activations.")
    index: IndexConfig = Field(default_factory=IndexConfig, description="The latent-major index.")
    latents: LatentsConfig = Field(default_factory=LatentsConfig, description="Which latents are explained.")
    lm: LmConfig = Field(
        default_factory=LmConfig,
        description="The language model that explains, scores and simulates, where no stage names one of its own.",
    )
    explain: ExplainConfig = Field(default_factory=ExplainConfig, description="How latents are explained.")
    score: ScoreConfig = Field(default_factory=ScoreConfig, description="How explanations are scored.")
    simulate: SimulateConfig = Field(default_factory=SimulateConfig, description="How activations are predicted.")
    calibrate: CalibrateConfig = Field(default_factory=CalibrateConfig, description="From predictions to values.")
    reconstruct: ReconstructConfig = Field(default_factory=ReconstructConfig, description="Patched losses.")
    continuations: ContinuationsConfig = Field(
        default_factory=ContinuationsConfig, description="Continuations of prompts, for the interactive page."
    )
    blog: BlogConfig = Field(default_factory=BlogConfig, description="What the experiment `blog` measures.")
    finetune: FinetuneConfig = Field(
        default_factory=FinetuneConfig, description="How the experiment `finetune` teaches a model to simulate."
    )
    report: ReportConfig = Field(default_factory=ReportConfig, description="The report.")
    kind: KindName = Field("base", description="What the run's own explanations are called beside those of `kinds`.")
    kinds: dict[KindName, Kind] = Field(
        default_factory=dict,
        description="Further kinds of explanations in the same run, by name: tokens, cache and index are shared, "
        "stages whose settings a kind changes (and what follows from them) are carried out once more for it.",
    )

    def of_kind(self, kind: str) -> Config:
        """The configuration of a run that had nothing but `kind`: its settings laid over the run's own.

        Raises KeyError for a kind that there is not, pydantic's ValidationError for settings that do not fit.
        """
        if kind == self.kind:
            return self
        data = merged(self.model_dump(mode="json"), self.kinds[kind].model_dump(mode="json"))
        return Config.model_validate({**data, "kind": kind, "kinds": {}})

    def language_model(self, stage: Literal["explain", "score", "simulate"]) -> LmConfig:
        """What answers a stage's prompts: the model of its own section, else the root's."""
        own: LmConfig | None = getattr(self, stage).lm
        return self.lm if own is None else own

    def at(self, path: str) -> Any:
        """The value at a dotted path. Raises AttributeError for a path that does not exist."""
        value: Any = self
        for part in path.split("."):
            value = getattr(value, part)
        return value

    def to_yaml(self) -> str:
        """The whole configuration, defaults included, as YAML that parses back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)

    def differences(self, other: Config) -> list[str]:
        """Dotted paths at which the two differ, leaving out fields that change only speed or place."""
        mine = dict(leaves(fingerprint_view(self)))
        theirs = dict(leaves(fingerprint_view(other)))
        return sorted(path for path in mine.keys() | theirs.keys() if mine.get(path) != theirs.get(path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and not self.differences(other)

    def __hash__(self) -> int:
        return hash(self.name)


class Loaded(NamedTuple):
    """A configuration and where its values came from."""

    config: Config
    sources: dict[str, str]
    """Dotted path of each leaf → `file`, `--set` or `default`."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a YAML file and apply `key=value` overrides (values are YAML).

    Raises UsageError for a missing or unreadable file, an unknown key (naming the nearest known one), a wrong value
    or a malformed override.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = sorted(str(p) for p in Path("configs").glob("*.yaml"))
        raise UsageError(
            f"cannot read the configuration {file} ({getattr(error, 'strerror', None) or error})",
            f"give a YAML file, e.g. {near[0]}" if near else "give a YAML file",
        ) from error
    try:
        data = yaml_of(text)
    except ValueError as error:
        raise UsageError(f"{file} is not valid YAML", str(error)) from error
    if not isinstance(data, dict):
        raise UsageError(f"{file} holds no settings", "a configuration is a YAML mapping of sections")
    data.setdefault("name", file.stem)
    sources = dict.fromkeys((path for path, _ in leaves(data)), "file")
    for override in overrides:
        key, parsed = parse_override(override, "simulate.positions=all")
        set_path(data, key, parsed)
        sources = {path: source for path, source in sources.items() if not path.startswith(f"{key}.")}
        sources.update({path: "--set" for path, _ in leaves(parsed, key)})
    config = parse_config(data)
    found = {path: _source(path, sources) for path, _ in leaves(config.model_dump(mode="json"))}
    return Loaded(config, found)


def _source(path: str, sources: Mapping[str, str]) -> str:
    """Where a leaf's value comes from: its own line, or that of a word which stands for the section it is in."""
    parts = path.split(".")
    upwards = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((sources[above] for above in upwards if above in sources), "default")


def parse_config(data: Any) -> Config:
    """Validate plain data. Raises UsageError listing what is wrong, one line."""
    where = ""
    try:
        config = Config.model_validate(data)
        for kind in config.kinds:
            where = f"kinds.{kind}."
            config.of_kind(kind)
    except ValidationError as error:
        problems = "; ".join(where + _explain(item) for item in error.errors()[:5])
        raise UsageError(problems, "see `nlsim config schema`") from error
    if config.kind in config.kinds:
        raise UsageError(f"kinds.{config.kind}: so are the run's own explanations called", "rename it, or set `kind`")
    return config


def parse_override(override: str, example: str) -> tuple[str, Any]:
    """Key and value of a `--set KEY=VALUE`, the value as YAML has it. Raises UsageError for a malformed one."""
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise UsageError(f"--set {override!r} is not key=value", f"e.g. --set {example}")
    try:
        return key, yaml_of(value)
    except ValueError as error:
        raise UsageError(f"--set {key}: {value!r} is not a YAML value", "quote it") from error


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set the value at a dotted path, making the mappings on the way."""
    *parents, last = path.split(".")
    for part in parents:
        child = data.get(part)
        if not isinstance(child, dict):
            child = data[part] = {}
        data = child
    data[last] = value


def merged(base: Any, changes: Any) -> Any:
    """`base` with `changes` laid over it, mapping by mapping."""
    if not isinstance(base, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths and values of everything that is not a mapping."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _explain(item: Any) -> str:
    """One validation error as `path: problem`, with the nearest known key for an unknown one."""
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        given = "" if isinstance(item["input"], Mapping) else f" (got {item['input']!r})"
        return f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}{given}"
    known = _known_keys(item["loc"][:-1])
    near = get_close_matches(str(item["loc"][-1]), known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}" if known else "no such key"
    return f"{path} is no known key ({hint})"


def _known_keys(location: Sequence[Any]) -> list[str]:
    models: list[type[BaseModel]] = [Config]
    for part in location:
        found: list[type[BaseModel]] = []
        for model in models:
            if part in model.model_fields:
                found += list(_models_in(model.model_fields[part].annotation))
        models = found or models  # a union's tag adds a part to the location that is no field
    return sorted({key for model in models for key in model.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_origin(annotation) is not None:
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)
