"""What tests on a cluster share: the command lines, and where things are."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from nlsim.pipeline.run import Run

ROOT = Path(__file__).parents[1]
NEEDED = ("KUBECONFIG", "NLSIM_TEST_S3_ENDPOINT", "NLSIM_TEST_S3_ENDPOINT_FROM_PODS")
TAG = os.environ.get("NLSIM_TEST_TAG", "dev")
DOCKER = os.environ.get("NLSIM_TEST_DOCKER", "docker")
QUICK = {
    "lm.device": "cpu",
    "subject.device": "cpu",
    "score.shards": 2,
    "simulate.shards": 3,
}
"""The tiny pipeline with several shards where it has one."""


Contents = dict[tuple[str, int, str], str]


def contents(url: str) -> Contents:
    """(stage, shard, object) → SHA-256 of every committed object of a run."""
    run = Run.open(url)
    found: Contents = {}
    for stage in run.pipeline.stages:
        artifact = run.artifact(stage.name)
        artifact.refresh()
        artifact.require_complete()
        for shard, record in artifact.records.items():
            found |= {(stage.name, shard, name): entry.sha256 for name, entry in record.objects.items()}
    return found


def kubectl(*words: str, stdin: str | None = None, check: bool = True) -> str:
    done = subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, check=False)
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout if check else done.stdout + done.stderr


def until(what: str, seconds: float, look: Callable[[], Any]) -> Any:
    """The first true value of `look`."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.3)
    return found


class Bed(NamedTuple):
    """Where a test submits to."""

    namespace: str
    bucket: str
    settings: Path

    def nlsim(self, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Call the command line; returns also when it fails."""
        command = [sys.executable, "-m", "nlsim.cli.main", *words]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=3000,
        )

    def submit_words(self, run: str, engine: str) -> list[str]:
        sets = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
        words = ["submit", "configs/tiny.yaml", "--run", run, "--engine", engine, "--cluster", str(self.settings)]
        return [*words, *sets]

    def with_settings(self, path: Path, **changes: Any) -> "Bed":
        settings = yaml.safe_load(self.settings.read_text())
        path.write_text(yaml.safe_dump(settings | changes))
        return self._replace(settings=path)

    @contextmanager
    def tight_quota(self) -> Iterator[None]:
        """A quota called `tight` that lets no pod in."""
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "tight", "namespace": self.namespace},
            "spec": {"hard": {"limits.memory": "1Mi"}},
        }
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(quota))
        try:
            yield
        finally:
            kubectl("delete", "resourcequota", "tight", "-n", self.namespace)

    def pods(self, selector: str) -> list[dict[str, Any]]:
        found = json.loads(kubectl("get", "pods", "-n", self.namespace, "-l", selector, "-o", "json"))
        return list(found["items"])
