"""What worker processes do in tests, in a module that they can import."""

import os
import signal
import time
from pathlib import Path


def die(_url: str, _stage: str, shard: int) -> bool:
    """Be killed, as by the kernel for want of memory, at the second shard."""
    if shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def hang(folder: str, _stage: str, shard: int) -> bool:
    """Say who we are, and work on for ever."""
    (Path(folder) / f"worker-{shard}").write_text(str(os.getpid()))
    while True:
        time.sleep(1)
