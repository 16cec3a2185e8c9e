"""Carry out one shard: the one call that the local runner, a pod, a Job and `docker run` all make."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from nlsim import __version__, log
from nlsim.errors import NlsimError, UsageError, is_out_of_memory, too_little_memory
from nlsim.pipeline.stage import StageContext, Stopped

if TYPE_CHECKING:
    from nlsim.pipeline.run import Run
    from nlsim.progress import Reporter
    from nlsim.store.artifact import Artifact, ShardWriter

_stop = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn the first SIGTERM or Ctrl-C into a request that stages notice; a second Ctrl-C interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(_number: int, _frame: FrameType | None) -> None:
        if _stop.is_set() and _number == signal.SIGINT:
            raise KeyboardInterrupt
        _stop.set()
        log.event("stopping", note="finishing the current step; press Ctrl-C again to interrupt it")

    _stop.clear()
    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_requested() -> bool:
    """Whether a stop was asked for since `stoppable` was entered."""
    return _stop.is_set()


def execute_shard(run: Run, stage_name: str, index: int, reporter: Reporter) -> bool:
    """Compute and commit one shard; False when it was committed already.

    Raises UsageError for a stage or shard that the run does not have, IncompleteError when an input is not complete,
    Stopped when a stop was asked for, and whatever the stage raises. Nothing of a failed shard is ever visible but a
    note that says why it failed, for `nlsim status`.
    """
    with log.about(run=run.url, stage=stage_name, shard=index):
        return _execute(run, stage_name, index, reporter)


def _execute(run: Run, stage_name: str, index: int, reporter: Reporter) -> bool:
    stage = run.pipeline.stage(stage_name)
    artifact = run.artifact(stage_name)
    if not 0 <= index < artifact.shards:
        raise UsageError(f"{stage_name} has shards 0 to {artifact.shards - 1}, not {index}", "see `nlsim plan`")
    if artifact.is_committed(index):
        if stage.publishes:
            run.publish(stage_name)
        return False
    inputs = {name: run.artifact(name) for name in stage.inputs}
    for needed in inputs.values():
        needed.require_complete()
    work = f"{stage_name} {index + 1}/{artifact.shards}"
    writer = artifact.begin(index)
    began, started = time.time(), time.monotonic()
    try:
        context = StageContext(run.config, index, artifact.shards, inputs, writer, _report(reporter, work))
        stage.execute(context)
        writer.engine(python=platform.python_version(), nlsim=__version__, host=platform.node())
        writer.commit()
    except BaseException as error:
        short = too_little_memory(f"{stage_name} {index}") if is_out_of_memory(error) else None
        _give_up(artifact, index, writer, began, short or error)
        if short:
            raise short from error
        raise
    finally:
        reporter.finish(work)
    if stage.publishes:
        run.publish(stage_name)
    log.event("committed", shards=artifact.shards, seconds=_seconds_since(started))
    return True


def _give_up(artifact: Artifact, shard: int, writer: ShardWriter, began: float, error: BaseException) -> None:
    """Remove what a failed attempt wrote and leave a note why it failed, as far as the store lets us."""
    from nlsim.store.failures import Failure, note_failure, reason_of

    code, reason = reason_of(error)
    with suppress(NlsimError):  # the error that counts is the one that we have
        writer.discard()
        failure = Failure(
            stage=artifact.stage,
            shard=shard,
            attempt=writer.attempt,
            host=platform.node(),
            started=began,
            ended=time.time(),
            exit_code=code,
            reason=reason,
        )
        note_failure(artifact, failure)


def _report(reporter: Reporter, work: str) -> Callable[[int, int, str], None]:
    def report(done: int, total: int, unit: str) -> None:
        if stop_requested():
            raise Stopped
        reporter.update(work, done, total, unit)

    return report


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 2)


def shard_index(given: int | None) -> int:
    """The shard to run: `given`, else `JOB_COMPLETION_INDEX` of an Indexed Job. Raises UsageError if neither."""
    text = os.environ.get("JOB_COMPLETION_INDEX") if given is None else str(given)
    if text is None:
        raise UsageError("which shard?", "give --shard-index, or set JOB_COMPLETION_INDEX")
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"JOB_COMPLETION_INDEX={text!r} is not a number", "an Indexed Job sets it") from None
