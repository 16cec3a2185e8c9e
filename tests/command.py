"""The command line as tests call it: in this process, or in one of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nlsim.cli.main import main

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "nlsim.cli.main")


def nlsim_here(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of `nlsim WORDS`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["nlsim", *map(str, words)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def environment() -> dict[str, str]:
    """That of this process, with one thread: the number of threads decides the last bits."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def nlsim_apart(*words: str) -> subprocess.CompletedProcess[str]:
    """`nlsim WORDS` in a process of its own, from the repository's root."""
    return subprocess.run(
        [*COMMAND, *words], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=600
    )
