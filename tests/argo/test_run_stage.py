"""`make run-stage`: the plain `docker run` of one shard. tests/cluster carries them out."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_stage(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The target, with `echo` for Docker."""
    command = ["make", "--no-print-directory", "run-stage", "DOCKER=echo", "TAG=1", *words]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MAKE", "OMP_"))} | environment
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_a_run_in_a_folder_is_mounted_and_has_no_network(tmp_path: Path) -> None:
    done = run_stage("STAGE=simulate", f"RUN={tmp_path}", "INDEX=3", AWS_SECRET_ACCESS_KEY="hidden")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run --rm --init --read-only ")
    assert f"--network none --user {os.getuid()}:{os.getgid()} --volume {tmp_path}:/run-folder " in done.stdout
    assert done.stdout.endswith("nlsim-model:1 stage simulate --run /run-folder --shard-index 3\n")
    assert done.stderr.split() == ["echo", *done.stdout.split()]
    assert "AWS_" not in done.stdout


def test_a_run_in_a_bucket_gets_the_credentials_by_name() -> None:
    given = {"AWS_ENDPOINT_URL": "http://store:9000", "AWS_SECRET_ACCESS_KEY": "hidden", "OMP_NUM_THREADS": "2"}
    done = run_stage("STAGE=index", "RUN=s3://bucket/run", **given)
    assert "--network host --env AWS_SECRET_ACCESS_KEY --env AWS_ENDPOINT_URL --env OMP_NUM_THREADS " in done.stdout
    assert done.stdout.endswith("nlsim-cpu:1 stage index --run s3://bucket/run --shard-index 0\n")
    assert "hidden" not in done.stdout + done.stderr


def test_without_stage_and_run_it_says_what_to_set() -> None:
    done = run_stage()
    assert done.returncode == 2
    assert "set STAGE and RUN" in done.stdout
