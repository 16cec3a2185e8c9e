"""What every measurement shares: facts of the machine, memory peaks, fresh processes, one JSON object as the result.

Run the scripts from the root of the repository: `python bench/cache.py`.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

WORDS = (
    "the", "of", "a", "value", "list", "returns", "if", "object", "string", "when", "key", "is", "not", "given",
    "raises", "default", "name", "file", "index", "type",
)  # fmt: skip
"""For made-up texts."""


def hardware() -> dict[str, Any]:
    """The machine, the versions that matter, and how busy the machine was."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "torch", "transformers")},
    }


def report(name: str, settings: dict[str, Any], results: dict[str, Any]) -> None:
    """Print a measurement as JSON."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    print(
        json.dumps({"benchmark": name, "date": date, "hardware": hardware(), "settings": settings, **results}, indent=1)
    )


def in_fresh_process(script: str, part: str, **arguments: Any) -> dict[str, Any]:
    """Run a part of a script in a process of its own (`script --part PART --key value …`); the JSON that it prints."""
    options = [text for key, value in arguments.items() for text in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, script, "--part", part, *options], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def memory_peak() -> Iterator[dict[str, float]]:
    """Collects the peak of this process's own memory while the body runs, in MB, beyond what it had at the start.

    `own_mb`: anonymous memory (files mapped into memory are the kernel's to drop), sampled every 5 ms.
    `resident_mb`: the largest resident set so far, mapped files and libraries included, as the kernel counts it.
    """
    peak = {"own_mb": 0.0, "resident_mb": 0.0}
    start, stop = _anonymous_mb(), threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak["own_mb"] = max(peak["own_mb"], _anonymous_mb() - start)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        peak["own_mb"] = round(peak["own_mb"], 1)
        peak["resident_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _anonymous_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0
