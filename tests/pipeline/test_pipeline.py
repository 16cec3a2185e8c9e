"""Order, choice of stages, fingerprints."""

import pytest
import toy

from nlsim.config import Config
from nlsim.errors import UsageError
from nlsim.pipeline.pipeline import Pipeline


def changed(config: Config, **update: object) -> Config:
    return config.model_copy(update=update)


def test_an_input_must_come_before_its_stage() -> None:
    numbers, squares, total = toy.toy().stages
    with pytest.raises(ValueError, match="squares"):
        Pipeline("wrong", (numbers, total, squares))
    with pytest.raises(ValueError, match="numbers"):
        Pipeline("twice", (numbers, numbers))


def test_until_keeps_what_a_stage_needs_and_nothing_else() -> None:
    assert [stage.name for stage in toy.toy().until("squares").stages] == ["numbers", "squares"]
    assert [stage.name for stage in toy.toy().until("numbers").stages] == ["numbers"]


def test_an_unknown_stage_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no stage 'sqares': did you mean squares\?"):
        toy.toy().stage("sqares")


def test_a_fingerprint_changes_with_what_the_stage_reads_and_passes_downstream(config: Config) -> None:
    def prints(config: Config) -> dict[str, str]:
        return {name: planned.fingerprint for name, planned in toy.toy().planned(config).items()}

    before = prints(config)
    assert prints(changed(config, seed=1)).keys() == before.keys()
    assert all(prints(changed(config, seed=1))[name] != before[name] for name in before)
    assert prints(changed(config, name="other")) == before


def test_fields_that_change_only_speed_leave_fingerprints_alone(config: Config) -> None:
    from nlsim.base import Section, fingerprint_view, speed_only

    class Knobs(Section):
        what: int = 1
        how: int = speed_only(2, "batch size")

    assert fingerprint_view(Knobs(how=3)) == fingerprint_view(Knobs(how=4)) == {"what": 1}
    assert fingerprint_view({"knobs": (Knobs(),)}) == {"knobs": [{"what": 1}]}


def test_the_version_and_the_identity_are_part_of_the_fingerprint(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = toy.Numbers()
    before = stage.fingerprint(config, {})
    monkeypatch.setattr(stage, "identity", lambda _config: {"text": "abc"})
    with_text = stage.fingerprint(config, {})
    monkeypatch.setattr(toy.Numbers, "version", 2)
    assert len({before, with_text, stage.fingerprint(config, {})}) == 3
