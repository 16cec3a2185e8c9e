"""Helpers of the store's tests: an artifact with known content, a proxy that fails on demand, a small disk."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from s3_proxy import Proxy, without_pauses

from nlsim.store.artifact import Artifact, ShardWriter
from nlsim.store.objects import open_objects

Write = Callable[[ShardWriter], None]


@pytest.fixture
def write() -> Write:
    """Writes one of each kind of object, the same for the same shard."""

    def write_all(writer: ShardWriter) -> None:
        generator = np.random.default_rng(7)
        writer.arrays("codes", {"index": generator.integers(0, 9000, (500, 8)).astype(np.uint16), "one": np.ones(3)})
        writer.table("stats", pa.table({"latent": [1, 2, 3]}))
        writer.json("facts", {"b": [1, "ä"]})
        writer.bytes("raw.bin", b"hello")
        writer.count(rows=500)

    return write_all


@pytest.fixture
def artifact(store_url: str) -> Artifact:
    """An artifact of three shards, none written, in a fresh store of each kind."""
    return Artifact(open_objects(store_url), "cache", "0123456789abcdef", 3)


@pytest.fixture
def proxy(s3_server: dict[str, str], s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 server, and the environment set to use it. Pauses between attempts are left out."""
    made = Proxy(s3_server["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
    with without_pauses():
        yield made
    made.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Callable[[str, str], str]:
    """Runs Python code in the folder of a file system mounted with the given options; returns what it prints."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-r", "-m", "true"], check=False).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(options: str, code: str) -> str:
        mount = f'mount -t tmpfs -o "{options}" tmpfs "{disk}" && cd "{disk}" && exec "{sys.executable}" -c "$1"'
        command = ["unshare", "-r", "-m", "sh", "-c", mount, "sh", code]
        environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
