"""Worker processes whose runner is killed. (Workers that are killed: tests/error_cases.)"""

import os
import signal
import time
from pathlib import Path

import pytest
import workers

from nlsim.config import Config
from nlsim.pipeline import runner
from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.run import Run
from nlsim.progress import SilentReporter


def _at_work(pid: int) -> bool:
    """Whether a process is there and no zombie: in a container nobody may reap orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_with_a_runner_that_is_killed(
    toy_pipeline: Pipeline, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would wait for ever for work that nobody gives them, and hold their memory and their GPUs."""
    run = Run.create(str(tmp_path), config)
    monkeypatch.setattr(runner, "_work", workers.hang)
    child = os.fork()
    if child == 0:
        try:
            runner._in_processes(run, "numbers", [0, 1], 2, SilentReporter())
        finally:
            os._exit(70)
    marks = [tmp_path / f"worker-{shard}" for shard in (0, 1)]
    end = time.monotonic() + 60
    while not all(mark.exists() and mark.read_text() for mark in marks):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for mark in marks:
        while _at_work(int(mark.read_text())):
            assert time.monotonic() < end, "an orphan is at work"
            time.sleep(0.02)
