"""How far long work has come: bars on a terminal, `$ARGO_PROGRESS_FILE` in a pod, JSON lines elsewhere."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from nlsim import log

if TYPE_CHECKING:
    from rich.progress import TaskID


class Reporter(Protocol):
    """Receives progress. `name` identifies the piece of work, e.g. `simulate 3/8`."""

    def update(self, name: str, done: int, total: int, unit: str) -> None: ...

    def finish(self, name: str) -> None: ...


class SilentReporter:
    """Discards progress."""

    def update(self, name: str, done: int, total: int, unit: str) -> None:
        pass

    def finish(self, name: str) -> None:
        pass


class LineReporter:
    """A log line at most every `every` seconds, and Argo's `done/total` file where `ARGO_PROGRESS_FILE` names one."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every
        self.last = time.monotonic()
        path = os.environ.get("ARGO_PROGRESS_FILE")
        self.argo = Path(path) if path else None

    def update(self, name: str, done: int, total: int, unit: str) -> None:
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        log.event("progress", work=name, done=done, total=total, unit=unit)
        if self.argo is not None:
            self.argo.write_text(f"{done}/{total}\n")

    def finish(self, name: str) -> None:
        pass


class BarReporter:
    """Bars with rate and remaining time; use as a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bars: Progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
            transient=True,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def update(self, name: str, done: int, total: int, unit: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=total, unit=unit)
        self.bars.update(self.tasks[name], completed=done, total=total, unit=unit)

    def finish(self, name: str) -> None:
        if name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))
