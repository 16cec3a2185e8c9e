"""What a workflow weighs, and how long planning takes, far beyond the sizes that anyone runs. Needs no cluster.

- Bytes of the article configuration's WorkflowTemplate and of its Indexed Job, at 1,000 and 1,000,000 simulate shards.
- Seconds of `nlsim plan`, `render`, `status` and a workflow's first step, `nlsim fan-out`, at 1,000,000 shards of which
  none is done, each in a fresh process, with everything that a user waits for. In a folder, or at `--run s3://…`.
- With `--workflow FILE` (`kubectl get workflow NAME -o json` of a finished run): bytes of that workflow as it is, and
  as it would be had its stage `simulate` had 1,000 shards: the nodes of its first shard repeated under other names and
  times. Argo compresses the nodes (gzip, base64) of a workflow that does not fit otherwise.
"""

from __future__ import annotations

import argparse
import base64
import copy
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import report

from argo.cluster import Cluster
from argo.job import stage_job
from argo.render import shapes, template, to_yaml
from nlsim.config import load_config

MANY, MORE = 1_000, 1_000_000


def template_bytes(shards: int) -> dict[str, int]:
    """The template with one pod per shard and with one Job behind a node, and the Job by itself."""
    config = load_config("configs/article.yaml", [f"simulate.shards={shards}"]).config
    shape = next(shape for shape in shapes(config) if shape.name == "simulate")
    args = ["stage", "simulate", "--run", "s3://bucket/run"]
    return {
        "template_of_pods": len(to_yaml(template(config, Cluster(max_pods=MORE)))),
        "template_with_jobs": len(to_yaml(template(config, Cluster(max_pods=1)))),
        "job": len(json.dumps(stage_job(Cluster(), shape.resources, args, shards, "name", "article", "simulate"))),
    }


def seconds(*words: str) -> dict[str, float]:
    """Time of a command that has to succeed: by the clock, and of the processor."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "nlsim.cli.main", *words], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": round(wall, 2), "cpu": round(used, 2)}


def planning(url: str) -> dict[str, dict[str, float]]:
    """Commands on a new run of the tiny configuration with a million simulate shards."""
    sets = ("--set", f"simulate.shards={MORE}")
    with tempfile.TemporaryDirectory() as folder:
        return {
            "plan": seconds("plan", "configs/tiny.yaml", "--run", url, *sets),
            "fan_out": seconds("fan-out", "--run", url, "--to", folder, "--job", f"simulate={MORE}"),
            "render": seconds("render", "configs/tiny.yaml", *sets, "--to", folder),
            "status": seconds("status", url),
        }


def widened(workflow: dict[str, Any], shards: int) -> dict[str, Any]:
    """The workflow as if `simulate` had had that many shards."""
    wide = copy.deepcopy(workflow)
    draw = random.Random(0)  # noqa: S311 - stands for Argo's hashes
    nodes = wide["status"]["nodes"]
    own = {key: nodes.pop(key) for key in list(nodes) if nodes[key]["displayName"].startswith("simulate(")}
    first = {key: node for key, node in own.items() if node["displayName"].startswith("simulate(0:0)")}
    made: dict[str, list[str]] = {key: [] for key in first}
    for index in range(shards):
        text = json.dumps(first).replace("simulate(0:0", f"simulate({index}:{index}")
        for old in first:
            new = f"{workflow['metadata']['name']}-{draw.getrandbits(32)}"
            text = text.replace(old, new)
            made[old].append(new)
        shard = json.loads(text)
        for node in shard.values():
            for field in ("startedAt", "finishedAt"):
                node[field] = f"2026-11-21T{draw.randrange(24):02d}:{draw.randrange(60):02d}:{draw.randrange(60):02d}Z"
            if "resourcesDuration" in node:
                node["resourcesDuration"] = {"cpu": draw.randrange(1000), "memory": draw.randrange(100_000)}
        nodes |= shard
    for node in nodes.values():
        for field in ("children", "outboundNodes"):
            if field in node:
                listed = [key for key in node[field] if key not in own]
                node[field] = listed + [new for key in node[field] for new in made.get(key, [])]
    return wide


def workflow_bytes(workflow: dict[str, Any]) -> dict[str, int]:
    """Bytes of a workflow as JSON, and with its nodes compressed as Argo does it."""
    plain = copy.deepcopy(workflow)
    nodes = json.dumps(plain["status"].pop("nodes"), separators=(",", ":")).encode()
    rest = len(json.dumps(plain, separators=(",", ":")))
    return {"plain": len(nodes) + rest, "compressed": len(base64.b64encode(gzip.compress(nodes, 6))) + rest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Print JSON (it always does).")
    parser.add_argument("--workflow", type=Path)
    parser.add_argument("--run", metavar="URL")
    given = parser.parse_args()
    results: dict[str, Any] = {f"bytes_at_{shards}_shards": template_bytes(shards) for shards in (MANY, MORE)}
    with tempfile.TemporaryDirectory() as folder:
        results["planning_seconds"] = planning(given.run or f"{folder}/run")
    if given.workflow is not None:
        workflow = json.loads(given.workflow.read_text())
        workflow["metadata"].pop("managedFields", None)
        results["workflow_bytes"] = workflow_bytes(workflow)
        results[f"workflow_bytes_at_{MANY}_shards"] = workflow_bytes(widened(workflow, MANY))
    report("cluster_plan", {"shards": MORE, "run": "s3" if given.run else "folder"}, results)


if __name__ == "__main__":
    main()
