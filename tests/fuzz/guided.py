"""The fuzz tests of parsers, led by coverage: atheris looks for inputs that reach lines which none has reached before.

`make fuzz-guided SECONDS=60` gives each test so long. What fails is printed as what was drawn.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis.strategies import tuples

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]


def targets() -> dict[str, Callable[..., Any]]:
    """Fuzz tests that need no more than a folder, by name."""
    from fuzz import test_files, test_runs

    every = {**vars(test_files), **vars(test_runs)}
    tests = {name: value for name, value in every.items() if name.startswith("test_") and hasattr(value, "drawn_from")}
    return {
        name: test
        for name, test in tests.items()
        if set(inspect.signature(test).parameters) <= {"tmp_path"}  # what Hypothesis draws is not among them
    }


def search(name: str, seconds: int, kept: str) -> None:
    """Fuzz one test in this process, which ends with it; `kept` is a folder for what it writes."""
    import atheris

    with atheris.instrument_imports(include=["nlsim", "argo"]):
        test = targets()[name]
    inner = test.hypothesis.inner_test  # type: ignore[attr-defined]
    needs_folder = "tmp_path" in inspect.signature(inner).parameters
    folder, corpus, found = (Path(kept) / part for part in ("tmp", "corpus", "found"))
    for path in (folder, corpus, found):
        path.mkdir()

    @settings(deadline=None, database=None, max_examples=1_000_000)
    @given(drawn=tuples(*test.drawn_from))  # type: ignore[attr-defined]
    def once(drawn: tuple[Any, ...]) -> None:
        try:
            inner(*((folder,) if needs_folder else ()), *drawn)
        except Exception:
            print(f"{name} fails with {drawn!r}", file=sys.stderr, flush=True)  # noqa: T201
            raise

    feed = once.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
    limits = [f"-max_total_time={seconds}", "-rss_limit_mb=6000", "-timeout=60", f"-artifact_prefix={found}/"]
    atheris.Setup([name, *limits, str(corpus)], feed)
    atheris.Fuzz()  # ends the process


def main() -> None:
    """Fuzz each named test, or all, in a process of its own."""
    seconds, *names = sys.argv[1:]
    if names[:1] == ["--here"]:
        search(names[1], int(seconds), names[2])
        return
    failed = []
    for name in names or targets():
        with tempfile.TemporaryDirectory() as kept:
            command = [sys.executable, __file__, seconds, "--here", name, kept]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = [line for line in done.stderr.splitlines() if "DONE" in line or "Done" in line]
        print(name, "failed" if done.returncode else " ".join(last[-1].split()) if last else "ran", flush=True)  # noqa: T201
        if done.returncode:
            failed.append(name)
            print(done.stdout[-2000:], done.stderr[-6000:], sep="\n", flush=True)  # noqa: T201
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
