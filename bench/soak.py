"""Kills and storage faults by the thousand: what `make test` does a few times, done often. Prints JSON.

`--kills N`: runners are killed, stopped and held at random moments, alone, two and ten at once, over a directory and
over S3; the bytes of every run equal those of an undisturbed one. `--faults N`: a proxy before the S3 server fails N
times. The pipeline is that of tests/toy.py, or `--config FILE` as far as `--until STAGE`. The S3 server is moto's, or
versitygw's with `--versitygw`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import fault_soak
import kill_soak
import s3_servers
from common import report
from s3_proxy import Proxy, without_pauses

from nlsim.store import s3

BUCKET = "soak"
KINDS = ("directory-1", "directory-2", "directory-10", "s3-1", "s3-2", "s3-10")


@contextmanager
def server(folder: Path, gateway: bool) -> Iterator[None]:
    """An S3 server with an empty bucket, and the environment set to use it."""
    with s3_servers.versitygw(folder / "gateway") if gateway else s3_servers.moto_apart() as environment:
        os.environ.update(environment, NLSIM_CACHE=str(folder / "cache"))
        s3.make_client().create_bucket(Bucket=BUCKET)
        yield


def clients() -> None:
    """Let forked runners use a client made before, which takes longer than their work; nobody else uses that one."""
    mine, parent, make = s3.make_client(), os.getpid(), s3.make_client
    s3.make_client = lambda: make() if os.getpid() == parent else mine


def kills(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Each kind of place with each number of runners; a share of the kills each."""
    config = Path(arguments.config) if arguments.config else None
    bench = kill_soak.Bench(folder, config, ("--until", arguments.until) if arguments.until else ())
    found = []
    with ExitStack() as stack:
        if config is None:
            stack.enter_context(kill_soak.toy_runs())
        stack.enter_context(server(folder, arguments.versitygw))
        clients()
        for chosen in arguments.kinds:
            kind, runners = chosen.split("-")
            name = f"{f's3://{BUCKET}' if kind == 's3' else folder}/{chosen}"
            started = time.perf_counter()
            killed = kill_soak.soak(
                bench,
                lambda number, name=name: f"{name}-{number}",
                f"{name}-undisturbed",
                round(arguments.kills / len(arguments.kinds)),
                arguments.seed,
                int(runners),
            )
            seconds = round(time.perf_counter() - started, 1)
            found.append({"kind": chosen, **killed._asdict(), "seconds": seconds})
            print(found[-1], file=sys.stderr)
    return found


def faults(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The S3 server behind a proxy that fails."""
    with server(folder, arguments.versitygw), without_pauses():
        proxy = Proxy(os.environ["AWS_ENDPOINT_URL"])
        os.environ["AWS_ENDPOINT_URL"] = proxy.url
        s3.PART = 5 << 20
        started = time.perf_counter()
        url = f"s3://{BUCKET}/faults"
        soaked = fault_soak.soak(proxy, url, arguments.faults, arguments.seed, 0.5, s3.PART, arguments.seconds)
        return {**soaked._asdict(), "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--faults", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop making faults after so long")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="where, and how many runners at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", help="a configuration to run instead of the toy pipeline")
    parser.add_argument("--until", help="the last stage")
    parser.add_argument("--versitygw", action="store_true")
    parser.add_argument("--json", action="store_true", help="the default; for the sake of the other benchmarks")
    arguments = parser.parse_args()
    if not arguments.config:
        arguments.until = arguments.until or "total"
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.kills:
            results["kills"] = kills(arguments, Path(folder))
        if arguments.faults:
            results["faults"] = faults(arguments, Path(folder))
    settings = {"seed": arguments.seed, "server": "versitygw" if arguments.versitygw else "moto"}
    report("soak", settings | {"config": arguments.config or "tests/toy.py"}, results)


if __name__ == "__main__":
    main()
