"""What a setting changes, and what it leaves as it is."""

from pathlib import Path

import pytest

from nlsim.config import Config, load_config
from nlsim.pipeline.registry import pipeline_of

ROOT = Path(__file__).parents[2]


def planned(*overrides: str) -> dict[str, str]:
    """Fingerprint of every stage of configs/tiny.yaml."""
    config: Config = load_config(ROOT / "configs" / "tiny.yaml", overrides).config
    return {name: plan.fingerprint for name, plan in pipeline_of(config).planned(config).items()}


def moved(*overrides: str) -> set[str]:
    before, after = planned(), planned(*overrides)
    return {name for name in before if before[name] != after[name]}


def test_one_coder_holds_for_every_stage() -> None:
    """Mistake 17: stage 3 was written for one coder and stage 4 for another, so their outputs did not match."""
    stages = set(planned())
    assert moved("coder.path=nlsim:tiny-sae") == stages - {"tokens"}
    assert moved("corpus.seed=1") == stages


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("explain.budget=8", "explain"),
        ("score.examples=3", "score"),
        ("simulate.evaluation_rows=4", "simulate"),
        ("calibrate.least_mass=0.1", "calibrate"),
        ("reconstruct.random_draws=2", "reconstruct"),
    ],
)
def test_what_comes_before_a_change_is_reused(override: str, first: str) -> None:
    stages = [*planned()]
    changed = moved(override)
    assert first in changed
    assert changed.isdisjoint(stages[: stages.index(first)])


def test_speed_and_place_change_nothing() -> None:
    assert moved("subject.device=cpu", "subject.batch_tokens=64", "reconstruct.batch_rows=2") == set()
