"""Pods deleted at random moments: nothing is lost, and what is committed is what an undisturbed run commits."""

import logging
import os
import random
import subprocess
import sys
import tempfile
import time

import pytest
from cluster_bed import ROOT, Bed, Contents, contents, kubectl

log = logging.getLogger(__name__)

DELETIONS = int(os.environ.get("NLSIM_POD_DELETIONS", "3"))
"""In all. The tests of a commit take few; NLSIM_POD_DELETIONS=50 takes half an hour."""
SUBMISSIONS = 20
"""Of one run, at most: a job gives up once a shard has lost more pods than `retries`."""


def alive(bed: Bed) -> list[str]:
    """Names of nlsim's pods that have not ended and are not being deleted."""
    pods = bed.pods("app.kubernetes.io/name=nlsim")
    active = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
    return [pod["metadata"]["name"] for pod in active if "deletionTimestamp" not in pod["metadata"]]


def disturb(bed: Bed, url: str, most: int, dice: random.Random) -> int:
    """Run to the end, submitting again where a job gives up; returns how many pods were deleted on the way."""
    deleted = 0
    words = [sys.executable, "-m", "nlsim.cli.main", *bed.submit_words(url, "job")]
    for _ in range(SUBMISSIONS):
        with tempfile.TemporaryFile("w+") as output:
            submitted = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            try:
                while submitted.poll() is None:
                    time.sleep(dice.expovariate(1 / 10))
                    pods = alive(bed) if deleted < most else []
                    if pods:
                        how = ["--wait=false", *dice.choice([("--grace-period=0", "--force"), ("--grace-period=5",)])]
                        said = kubectl("delete", "pod", dice.choice(pods), "-n", bed.namespace, *how, check=False)
                        deleted += "deleted" in said
            finally:
                submitted.kill()
            output.seek(0)
            said = output.read()
        if submitted.returncode == 0:
            return deleted
        assert submitted.returncode in (4, 75), said
    pytest.fail(f"{url} did not end in {SUBMISSIONS} submissions:\n{said}")


def test_pods_deleted_at_random(bed: Bed, local: Contents) -> None:
    dice = random.Random(0)
    deleted = runs = 0
    while deleted < DELETIONS:
        url = f"s3://{bed.bucket}/deletions-{runs}"
        deleted += disturb(bed, url, min(DELETIONS - deleted, 10), dice)
        runs += 1
        assert runs <= DELETIONS, "runs end with no pod deleted"
        found = contents(url)
        assert found.keys() == local.keys()
        assert [key for key in local if found[key] != local[key]] == []
        assert bed.nlsim("verify", url).returncode == 0
        log.info("%d pods deleted, %d runs equal", deleted, runs)
