"""Kills: runners of one run are killed, stopped and started again at random moments, until the run is complete.

Runners are processes forked from this one, which has everything imported, so that a restart costs little. Each carries
out `nlsim run` as the command line does. The kernel's out-of-memory killer uses SIGKILL, as we do.
"""

import importlib
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import toy

from nlsim.cli.main import main
from nlsim.pipeline import registry
from nlsim.pipeline.run import Run
from nlsim.store.gc import collect_garbage

CONFIG = "subject: {model: nlsim:tiny}\ncoder: {path: nlsim:tiny-skip}\n"
DONE, AGAIN = 0, 75
PRELOADED = ("nlsim.cli.run", "nlsim.config", "nlsim.pipeline.plan", "nlsim.pipeline.runner", "nlsim.store.artifact")
PRELOADED += ("nlsim.store.failures", "nlsim.store.s3", "pandas", "pyarrow.parquet")
"""What every runner needs: imported once, before they are forked."""


class Killed(NamedTuple):
    """What happened."""

    signals: dict[str, int]
    """How many processes were ended by SIGKILL, asked to stop by SIGTERM, held by SIGSTOP for a while."""
    runs: int
    """Completed, each compared with the undisturbed one."""
    starts: int
    """Of runners."""
    objects: int
    """Committed objects compared."""


class Bench:
    """Where runs are made, and with what they are compared."""

    def __init__(self, folder: Path, config: Path | None = None, words: tuple[str, ...] = ("--until", "total")) -> None:
        self.config, self.words, self.log = config or folder / "toy.yaml", words, folder / "runner.log"
        if config is None:
            self.config.write_text(CONFIG)
        for module in PRELOADED:
            importlib.import_module(module)

    def start(self, url: str, *words: str) -> int:
        """Fork a runner; its process id."""
        sys.stdout.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until there is somebody to hear it
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            return child
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            sys.stdout = sys.stderr = self.log.open("w")
            sys.argv = ["nlsim", "run", str(self.config), "--run", url, *self.words, *words]
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def said(self) -> str:
        """What the runner that started last has printed."""
        return self.log.read_text(errors="replace")


@contextmanager
def toy_runs() -> Iterator[None]:
    """The pipeline of toy.py in place of every experiment's, whose report is the sum."""
    before, registry.pipeline_of = registry.pipeline_of, lambda _config: toy.toy()
    try:
        yield
    finally:
        registry.pipeline_of = before


def facts(url: str) -> dict[str, str]:
    """SHA-256 of every committed object, checked against the bytes, and the published copies; nothing else is left."""
    run = Run.open(url)
    found = {}
    for stage in run.pipeline.stages:
        artifact = run.artifact(stage.name)
        if not artifact.complete:
            continue
        assert artifact.verify() == []
        for shard, record in artifact.records.items():
            found |= {f"{stage.name}/{shard}/{name}": entry.sha256 for name, entry in record.objects.items()}
    assert run.check_published() == []
    collect_garbage(run.store, grace=-60)
    keys = [re.sub(r"/data/(\d+)-[0-9a-f]+/", r"/data/\1/", info.key) for info in run.store.list()]
    return found | dict.fromkeys(keys, "")


def soak(
    bench: Bench, place: Callable[[int], str], undisturbed: str, kills: int, seed: int, runners: int = 1
) -> Killed:
    """Disturb runs at `place(0)`, `place(1)` … until so many signals were sent; every run is carried to its end.

    With several `runners` they work on one run side by side (`--join`).
    """
    generator = random.Random(seed)
    started = time.monotonic()
    assert ended(bench.start(undisturbed, *bench_join(runners))) == DONE, bench.said()
    alone = time.monotonic() - started
    pause = alone * (0.7 if runners == 1 else 1.4 / runners)  # so that most runs are hit, with several runners often
    expected = facts(undisturbed)
    sent: Counter[str] = Counter()
    starts = runs = 0
    while sent.total() < kills:
        url = place(runs)
        alive: list[int] = []
        complete = False
        while not complete:
            while len(alive) < runners:
                alive.append(bench.start(url, *bench_join(runners)))
                starts += 1
            time.sleep(generator.uniform(0, pause))
            complete |= reap(bench, alive)
            if alive and sent.total() < kills:
                disturb(generator, generator.choice(alive), alone, sent)
            complete |= reap(bench, alive)
            if complete or sent.total() >= kills:
                complete |= True in [check_end(bench, ended(child)) for child in alive]
                alive = []
        assert facts(url) == expected
        remove(url)
        runs += 1
    return Killed(dict(sorted(sent.items())), runs, starts, runs * len(expected))


def bench_join(runners: int) -> tuple[str, ...]:
    """A single runner leaves its note, which the next one finds; several say that they know of each other."""
    return ("--join",) if runners > 1 else ()


def disturb(generator: random.Random, child: int, longest: float, sent: Counter[str]) -> None:
    """Kill, stop, or hold a process for a while."""
    chosen = generator.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
    sent[chosen.name] += 1
    os.kill(child, chosen)
    if chosen == signal.SIGSTOP:
        time.sleep(generator.uniform(0, longest))
        os.kill(child, signal.SIGCONT)


def reap(bench: Bench, alive: list[int]) -> bool:
    """Take away the processes that have ended; whether one of them had completed the run."""
    over = []
    for child in list(alive):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            alive.remove(child)
            over.append(check_end(bench, os.waitstatus_to_exitcode(status)))
    return True in over


def ended(child: int) -> int:
    """Wait for a process; its exit status, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_end(bench: Bench, status: int) -> bool:
    """Whether the run is complete. A runner ends well, is killed, or says that it can be started again."""
    assert status in (DONE, AGAIN, -signal.SIGKILL, -signal.SIGTERM), f"exit status {status}: {bench.said()}"
    return status == DONE


def remove(url: str) -> None:
    """Forget a run in a directory."""
    if not url.startswith("s3://"):
        shutil.rmtree(url)
