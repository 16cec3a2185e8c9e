"""Sizes of the stage images, and how long a container takes from its start to work that counts. Needs Docker.

The tiny run is carried out by `docker run`, shard after shard, as a cluster does it: read-only, no network. Reported
are per stage the median over its shards and repetitions of

- `work`: from the container's start (as Docker noted it) until the stage began to compute its shard, and
- `committed`: until the shard was committed: interpreter, imports, reading of models and inputs, and all of the work.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from common import report

from nlsim.config import load_config
from nlsim.pipeline.run import Run


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def carry_out(folder: Path, stage: str, shard: int, image: str, threads: int) -> float:
    """Run one shard in a container; when the container started, seconds since the epoch."""
    words = ["--init", "--read-only", "--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", "--network", "none"]  # noqa: S108
    words += ["--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:/run-folder"]
    words += ["--env", f"OMP_NUM_THREADS={threads}", image]
    name = docker("create", *words, "stage", stage, "--run", "/run-folder", "--shard-index", str(shard))
    docker("start", "--attach", name)
    started = docker("inspect", "--format", "{{.State.StartedAt}}", name)
    docker("rm", name)
    return datetime.datetime.fromisoformat(started[:26].rstrip("Z") + "+00:00").timestamp()


def starts(tag: str, repetitions: int) -> dict[str, dict[str, Any]]:
    """Medians per stage."""
    config = load_config("configs/tiny.yaml", ["lm.device=cpu", "subject.device=cpu"]).config
    found: dict[str, dict[str, Any]] = {}
    for _ in range(repetitions):
        with tempfile.TemporaryDirectory() as folder:
            run = Run.create(folder, config)
            for stage in run.pipeline.stages:
                resources = stage.resources(config)
                row = found.setdefault(stage.name, {"image": resources.image, "work": [], "committed": []})
                for shard in range(stage.shards(config)):
                    image, threads = f"nlsim-{resources.image}:{tag}", max(int(resources.cpus), 1)
                    begun = carry_out(Path(folder), stage.name, shard, image, threads)
                    record = run.artifact(stage.name).record(shard)
                    row["work"].append(record.started - begun)
                    row["committed"].append(record.started + record.seconds - begun)
    medians = {"work": statistics.median, "committed": statistics.median}
    return {
        name: {"image": row["image"], "n": len(row["work"])} | {k: round(f(row[k]), 2) for k, f in medians.items()}
        for name, row in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Print JSON (it always does).")
    parser.add_argument("--tag", default="dev")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    inspected = ["image", "inspect", "--format", "{{.Size}}"]
    sizes = {name: int(docker(*inspected, f"nlsim-{name}:{given.tag}")) for name in ("cpu", "model")}
    report(
        "images",
        {"tag": given.tag, "repetitions": given.repetitions},
        {"image_megabytes": {name: round(size / 1e6) for name, size in sizes.items()}}
        | {"seconds_from_container_start": starts(given.tag, given.repetitions)},
    )


if __name__ == "__main__":
    main()
