"""The local runner: every missing shard of every stage, in order, in this process or in several."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nlsim import log
from nlsim.errors import NlsimError, TransientError
from nlsim.pipeline.execute import execute_shard, stop_requested, stoppable
from nlsim.pipeline.stage import Stopped
from nlsim.progress import SilentReporter
from nlsim.store.objects import MissingObjectError

if TYPE_CHECKING:
    from nlsim.pipeline.run import Run
    from nlsim.progress import Reporter
    from nlsim.store.objects import Objects

RUNNER = "_runner.json"
HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


class Outcome(NamedTuple):
    """What one call of the runner did with one stage."""

    stage: str
    shards: int
    computed: int
    """Shards computed now; the others were committed before."""
    seconds: float


def carry_out(run: Run, reporter: Reporter, until: str | None = None, workers: int = 1) -> Iterator[Outcome]:
    """Run the missing shards of the pipeline (of what `until` needs), yielding after each stage.

    With several workers a stage's shards run in as many processes, each with its share of the cores and, where there
    are GPUs, as many of them as a shard of the stage needs. Raises what a shard raises; Stopped after SIGTERM or
    Ctrl-C. Committed shards always stay.
    """
    pipeline = run.pipeline if until is None else run.pipeline.until(until)
    with stoppable():
        for stage in pipeline.stages:
            started = time.monotonic()
            artifact = run.artifact(stage.name)
            artifact.refresh()
            missing = artifact.missing()
            if workers > 1 and len(missing) > 1:
                computed = _in_processes(run, stage.name, missing, min(workers, len(missing)), reporter)
            else:
                computed = 0
                for shard in missing:
                    if stop_requested():
                        raise Stopped
                    computed += execute_shard(run, stage.name, shard, reporter)
            if not missing and stage.publishes:
                run.publish(stage.name)
            yield Outcome(stage.name, artifact.shards, computed, time.monotonic() - started)


def _in_processes(run: Run, stage: str, missing: list[int], workers: int, reporter: Reporter) -> int:
    """Run the shards in worker processes; the first failure stops the handing out of new shards and is raised.

    Raises TransientError when a worker was killed.
    """
    spawn = multiprocessing.get_context("spawn")
    numbers = spawn.Queue()
    for number in range(workers):
        numbers.put(number)
    queue = list(missing)
    computed = 0
    gpus = max(run.pipeline.stage(stage).resources(run.config).gpus, 1)
    with ProcessPoolExecutor(workers, spawn, _start_worker, (numbers, workers, gpus)) as pool:
        running: set[Future[bool]] = set()
        try:
            while queue or running:
                while queue and len(running) < workers:
                    running.add(pool.submit(_work, run.url, stage, queue.pop(0)))
                done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                computed += sum(future.result() for future in done)
                if stop_requested():
                    raise Stopped
                reporter.update(stage, len(missing) - len(queue) - len(running), len(missing), "shards")
        except BrokenProcessPool as error:
            for process in multiprocessing.active_children():
                process.kill()  # the dead one may have held the lock of the queue that the others wait for
            raise TransientError(
                f"a worker process of {stage} was killed, perhaps for want of memory",
                "run the same command again; if it happens again, with fewer --workers",
            ) from error
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            reporter.finish(stage)
    return computed


def _start_worker(numbers: multiprocessing.Queue[int], workers: int, gpus: int) -> None:
    """Give this worker its share of the cores and its GPUs, before anything loads torch."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    number = numbers.get()
    threads = max((os.cpu_count() or 1) // workers, 1)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [path.name[6:] for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share_of(devices, number, gpus))
    log.setup()


def _end_with_parent() -> None:
    """End this worker when the runner has been killed: it would wait for work for ever and hold its GPU."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(75)


def share_of(devices: Sequence[str], number: int, each: int) -> list[str]:
    """The GPUs of worker `number`: the next `each` in turn, so that workers share one only where there are too few."""
    return [devices[(number * each + i) % len(devices)] for i in range(min(each, len(devices)))]


def _work(url: str, stage: str, shard: int) -> bool:
    from nlsim.pipeline.run import Run

    with stoppable():
        return execute_shard(Run.open(url), stage, shard, SilentReporter())


@contextmanager
def sole_runner(files: Objects, join: bool = False) -> Iterator[None]:
    """Keep a note at the run that this runner is at work, so that a second one does not repeat its shards by mistake.

    Two runners can do no harm (a shard is committed once); the note only saves double work. Raises TransientError when
    another runner's note is fresh, unless `join`.
    """
    if join:
        yield
        return
    note = json.dumps({"host": platform.node(), "pid": os.getpid(), "started": time.time()}).encode()
    if not files.put_if_absent(RUNNER, note):
        if (other := _other_runner(files)) is not None:
            raise TransientError(
                f"another runner (process {other['pid']} on {other['host']}) is at work on this run",
                "wait for it, or add --join to work beside it",
            )
        files.put(RUNNER, note)
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(HEARTBEAT_SECONDS):
            with suppress(NlsimError):  # a note that grows stale costs double work at most
                files.put(RUNNER, note)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        with suppress(NlsimError):
            files.delete([RUNNER])


def _other_runner(files: Objects) -> dict[str, Any] | None:
    """The runner that left a note, if it may still be alive."""
    info = files.info(RUNNER)
    try:
        other = json.loads(files.get(RUNNER))
        pid, host = int(other["pid"]), other["host"]
    except (MissingObjectError, ValueError, KeyError, TypeError, OverflowError):
        return None  # it has just ended, or the note is damaged
    if info is None or files.now() - info.modified > STALE_SECONDS or (host == platform.node() and not _exists(pid)):
        return None
    return {"pid": pid, "host": host}


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
