"""Runs: made once, resumed, moved to another configuration, shared stores, failures, two runners."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy

from nlsim.config import Config
from nlsim.errors import DataError, IncompleteError, TransientError, UsageError
from nlsim.pipeline.execute import execute_shard, shard_index
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.plan import HARDWARE, plan_config, write_plan
from nlsim.pipeline.run import Run
from nlsim.pipeline.runner import RUNNER, carry_out, share_of, sole_runner
from nlsim.pipeline.stage import Stopped
from nlsim.progress import SilentReporter
from nlsim.store.failures import failures

REPORTER = SilentReporter()


def finish(run: Run) -> list[int]:
    """Shards computed now, by stage."""
    return [outcome.computed for outcome in carry_out(run, REPORTER)]


def data_bytes(run: Run) -> dict[str, str]:
    """SHA-256 of every committed object."""
    return {
        f"{stage.name}/{shard}/{name}": made.sha256
        for stage in run.pipeline.stages
        for shard, record in run.artifact(stage.name).records.items()
        for name, made in record.objects.items()
    }


def test_a_run_computes_everything_once(toy_pipeline: Pipeline, config: Config, store_url: str) -> None:
    run = Run.create(store_url, config)
    assert finish(run) == [4, 4, 1]
    assert json.loads(run.files.get("total.json")) == {"total": sum(n * n for n in range(40))}
    again = Run.create(store_url, config)
    assert finish(again) == [0, 0, 0]
    assert finish(Run.open(store_url)) == [0, 0, 0]


def test_a_failed_shard_leaves_nothing_visible_and_the_rest_stays(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Run.create(str(tmp_path / "undisturbed"), config)
    finish(undisturbed)
    run = Run.create(str(tmp_path / "run"), config)
    monkeypatch.setenv("TOY_FAIL", "2")
    with pytest.raises(RuntimeError, match="asked to fail"):
        finish(run)
    squares = run.artifact("squares")
    squares.refresh()
    assert squares.missing() == [2, 3]
    with pytest.raises(IncompleteError, match="squares"):
        execute_shard(run, "total", 0, REPORTER)
    monkeypatch.delenv("TOY_FAIL")
    assert finish(run) == [0, 2, 1]
    assert data_bytes(run) == data_bytes(undisturbed)


def test_too_little_memory_can_be_tried_again(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(str(tmp_path), config)
    monkeypatch.setenv("TOY_FAIL", "2")
    monkeypatch.setenv("TOY_FAIL_BY", "memory")
    with pytest.raises(TransientError, match="not enough memory for squares 2: give it more memory"):
        finish(run)
    (noted,) = failures(run.artifact("squares"))
    assert (noted.exit_code, noted.reason[:28]) == (75, "not enough memory for square")


def test_a_changed_configuration_is_refused_then_reuses_what_it_leaves_unchanged(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path
) -> None:
    url = str(tmp_path)
    finish(Run.create(url, config))
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(UsageError, match=r"another configuration \(changed: seed\).*--update"):
        Run.create(url, other)
    moved = Run.create(url, other, update=True)
    assert finish(moved) == [4, 4, 1]
    back = Run.create(url, config, update=True)
    assert finish(back) == [0, 0, 0], "the outputs of the first configuration were still there"


def test_two_runs_share_a_store(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    shared = str(tmp_path / "shared")
    assert finish(Run.create(str(tmp_path / "a"), config, shared)) == [4, 4, 1]
    assert finish(Run.create(str(tmp_path / "b"), config, shared)) == [0, 0, 0]
    assert (tmp_path / "b" / "total.json").exists(), "what a stage publishes is published for every run"


def test_opening_what_is_no_run(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at"):
        Run.open(str(tmp_path / "nothing"))
    run = Run.create(str(tmp_path / "run"), config)
    run.files.put("lineage.json", b"{")
    with pytest.raises(DataError, match="damaged"):
        Run.open(run.url)


def test_wrong_stage_or_shard(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), config)
    with pytest.raises(UsageError, match="shards 0 to 3, not 4"):
        execute_shard(run, "numbers", 4, REPORTER)
    with pytest.raises(UsageError, match="no stage"):
        execute_shard(run, "number", 0, REPORTER)


def test_the_shard_index_comes_from_the_option_or_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOB_COMPLETION_INDEX", raising=False)
    with pytest.raises(UsageError, match="which shard"):
        shard_index(None)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "7")
    assert shard_index(None) == 7
    assert shard_index(3) == 3
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "seven")
    with pytest.raises(UsageError, match="not a number"):
        shard_index(None)


def test_sigterm_stops_between_steps_and_the_next_call_finishes(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(str(tmp_path), config)
    before: Callable[..., None] = toy.Squares.execute

    def stop_at_shard_1(self: object, context: object) -> None:
        if context.shard == 1:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGTERM)
        before(self, context)

    monkeypatch.setattr(toy.Squares, "execute", stop_at_shard_1)
    with pytest.raises(Stopped) as stopped:
        finish(run)
    assert stopped.value.exit_code == 75
    monkeypatch.setattr(toy.Squares, "execute", before)
    assert finish(run) == [0, 3, 1]


def test_a_second_runner_is_told_unless_it_joins(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), config)
    with sole_runner(run.files):
        with pytest.raises(TransientError, match=r"another runner \(process"), sole_runner(run.files):
            pass
        with sole_runner(run.files, join=True):
            assert finish(run) == [4, 4, 1]
    assert run.files.info(RUNNER) is None


def test_the_note_of_a_dead_runner_is_taken_over(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), config)
    run.files.put(RUNNER, json.dumps({"host": "another-machine", "pid": 1, "started": 0}).encode())
    os.utime(tmp_path / RUNNER, (time.time() - 3600,) * 2)
    with sole_runner(run.files):
        assert finish(run) == [4, 4, 1]


@pytest.mark.parametrize("note", [b"{", b"[]", b"{}"])
def test_a_damaged_note_is_no_runner(toy_pipeline: Pipeline, config: Config, tmp_path: Path, note: bytes) -> None:
    run = Run.create(str(tmp_path), config)
    run.files.put(RUNNER, note)
    with sole_runner(run.files):
        assert json.loads(run.files.get(RUNNER))["pid"] == os.getpid()


def test_ten_runners_at_once_leave_the_same_bytes(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    alone = Run.create(str(tmp_path / "alone"), config)
    finish(alone)
    url = str(tmp_path / "together")
    Run.create(url, config)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            finish(Run.open(url))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert data_bytes(Run.open(url)) == data_bytes(alone)


def test_workers_share_gpus_only_where_there_are_too_few() -> None:
    four = ["0", "1", "2", "3"]
    assert [share_of(four, worker, 1) for worker in range(5)] == [["0"], ["1"], ["2"], ["3"], ["0"]]
    assert [share_of(four, worker, 2) for worker in range(3)] == [["0", "1"], ["2", "3"], ["0", "1"]]
    assert share_of(["7"], 3, 2) == ["7"]


def test_the_plan_says_what_workflows_need(toy_pipeline: Pipeline, config: Config, tmp_path: Path) -> None:
    run = Run.create(str(tmp_path), config)
    rows = plan_config(config, run)
    write_plan(run, rows)
    plan = json.loads(run.files.get("plan.json"))
    assert [(s["name"], s["shards"], s["inputs"]) for s in plan["stages"]] == [
        ("numbers", 4, []),
        ("squares", 4, ["numbers"]),
        ("total", 1, ["squares"]),
    ]
    assert plan["stages"][1]["resources"] == {"image": "model", "cpus": 2, "memory_gb": 4, "gpus": 1}
    assert {s["name"]: s["fingerprint"] for s in plan["stages"]} == {
        name: stage.fingerprint for name, stage in run.lineage.stages.items()
    }
    h200 = next(hardware for hardware in HARDWARE if hardware.name == "H200")
    assert rows[1].seconds_on(h200) == pytest.approx(2e19 / h200.flops_per_s)
