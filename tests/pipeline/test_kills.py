"""Runners killed at random moments: what they commit equals an undisturbed run. `bench/soak.py` does it for long."""

import random
from pathlib import Path

import kill_soak
import pytest

from nlsim.pipeline.pipeline import Pipeline


@pytest.mark.parametrize("runners", [1, 3])
def test_runs_that_are_killed_stopped_and_held_end_with_the_same_bytes(
    runners: int, toy_pipeline: Pipeline, tmp_path: Path
) -> None:
    killed = kill_soak.soak(
        kill_soak.Bench(tmp_path), lambda number: str(tmp_path / f"run-{number}"), str(tmp_path / "undisturbed"), 5,
        seed=runners, runners=runners,
    )  # fmt: skip
    assert sum(killed.signals.values()) == 5
    assert killed.runs >= 1  # each was compared with the undisturbed one
    assert killed.objects >= 9


def test_what_differs_is_noticed(toy_pipeline: Pipeline, tmp_path: Path) -> None:
    """The comparison itself: a lost shard, a changed byte and something left over are each seen."""
    bench = kill_soak.Bench(tmp_path)
    run = tmp_path / "run"
    assert kill_soak.ended(bench.start(str(run))) == 0
    facts = kill_soak.facts(str(run))
    (run / "more").write_bytes(b"")
    assert kill_soak.facts(str(run)) != facts
    (run / "more").unlink()
    record = random.Random(0).choice(sorted(run.glob("numbers/*/_commit/*.json")))
    kept = record.read_bytes()
    record.unlink()
    assert kill_soak.facts(str(run)) != facts
    record.write_bytes(kept.replace(b'"values":10', b'"values":11'))
    with pytest.raises(AssertionError):
        kill_soak.facts(str(run))
