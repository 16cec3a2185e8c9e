"""Kinds of explanations: what is repeated, what is shared, and under which fingerprints."""

from collections.abc import Callable
from typing import Any

import pytest

from nlsim.config import Config, parse_config
from nlsim.errors import UsageError
from nlsim.experiments.article import article
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run
from nlsim.pipeline.runner import carry_out
from nlsim.pipeline.stage import Stage, StageContext
from nlsim.pipeline.variant import of_kind, with_kinds
from nlsim.progress import SilentReporter

Make = Callable[..., Config]


@pytest.fixture
def make() -> Make:
    def made(**kinds: Any) -> Config:
        return parse_config(
            {"name": "toy", "subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}, "kinds": kinds}
        )

    return made


def stages(config: Config) -> dict[str, tuple[str, ...]]:
    return {stage.name: tuple(stage.inputs) for stage in article(config).stages}


def test_a_kind_repeats_what_it_changes_and_what_follows(make: Make) -> None:
    found = stages(make(top={"explain": {"budget": 2}}))
    assert [name for name in found if name.endswith("-top")] == [
        f"{name}-top" for name in ("explain", "score", "simulate", "calibrate", "reconstruct")
    ]
    assert found["score-top"] == ("tokens", "cache", "index", "explain-top")
    assert set(found["calibrate-top"]) == {"tokens", "cache", "index", "score-top", "simulate-top"}
    assert set(found["report"]) == set(found) - {"report"}


def test_what_a_kind_leaves_alone_is_shared(make: Make) -> None:
    found = stages(make(large={"simulate": {"lm": {"model": "a/large-8b"}}}))
    assert [name for name in found if name.endswith("-large")] == [
        "simulate-large",
        "calibrate-large",
        "reconstruct-large",
    ]
    assert found["simulate-large"] == stages(make())["simulate"]


def test_a_setting_of_speed_alone_repeats_nothing(make: Make) -> None:
    assert stages(make(same={"lm": {"batch_tokens": 64}})) == stages(make())


def test_a_variant_has_the_fingerprint_of_a_run_of_that_kind(make: Make) -> None:
    both = make(top={"explain": {"budget": 2}})
    alone = make().model_copy(update={"explain": make().explain.model_copy(update={"budget": 2})})
    mine, theirs = article(both).planned(both), article(alone).planned(alone)
    for stage in ("explain", "score", "simulate", "calibrate", "reconstruct"):
        assert mine[f"{stage}-top"].fingerprint == theirs[stage].fingerprint
        assert mine[stage].fingerprint != theirs[stage].fingerprint
    assert mine["index"].fingerprint == theirs["index"].fingerprint


def test_settings_that_do_not_fit_name_the_kind(make: Make) -> None:
    with pytest.raises(UsageError, match=r"kinds\.top\.explain\.buget is no known key \(did you mean budget"):
        make(top={"explain": {"buget": 2}})
    with pytest.raises(UsageError, match=r"kinds\.top\.explain\.budget: input should be greater"):
        make(top={"explain": {"budget": 0}})
    with pytest.raises(UsageError, match=r"kinds\.top\.corpus is no known key"):
        make(top={"corpus": {}})
    with pytest.raises(UsageError, match="so are the run's own"):
        make(base={})
    with pytest.raises(UsageError, match="pattern"):
        make(**{"Top!": {}})


def test_settings_are_laid_over_each_other(make: Make) -> None:
    config = make(near={"lm": {"endpoint": {"base_url": "http://x/v1"}}})
    lm = config.of_kind("near").lm
    assert lm.endpoint.base_url == "http://x/v1"
    assert lm.endpoint.retries == config.lm.endpoint.retries
    assert config.of_kind("base") is config
    assert config.of_kind("near").kinds == {}


class Explained(Stage):
    name = "explain"
    sections = ("explain",)

    def shards(self, config: Config) -> int:
        return config.explain.shards

    def execute(self, context: StageContext) -> None:
        context.output.json("said", {"budget": context.config.explain.budget, "shard": context.shard})


class Doubled(Stage):
    name = "double"
    inputs = ("explain",)

    def shards(self, config: Config) -> int:
        return 1

    def execute(self, context: StageContext) -> None:
        said = context.inputs["explain"]
        context.output.json("said", {"sum": sum(said.json(shard, "said")["budget"] for shard in range(said.shards))})


def test_variants_run_under_their_own_settings_and_inputs(
    make: Make, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipeline(config: Config) -> Pipeline:
        return Pipeline("toy", tuple(with_kinds(config, lambda _: [Explained(), Doubled()])))

    monkeypatch.setattr("nlsim.pipeline.registry.pipeline_of", pipeline)
    run = Run.create(store_url, make(top={"explain": {"budget": 2, "shards": 3}}))
    for _ in carry_out(run, SilentReporter()):
        pass
    assert run.artifact("double").json(0, "said") == {"sum": run.config.explain.budget}
    assert run.artifact("double-top").json(0, "said") == {"sum": 2 * 3}
    assert of_kind({name: name for name in run.lineage.stages}, "top")["double"] == "double-top"
