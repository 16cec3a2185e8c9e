"""`nlsim status` of a run with very many shards: seconds and memory, over a directory and over an S3 gateway.

Two stages of `--shards` shards each, all but one committed. The records are written straight into the directory, which
is also the folder of the gateway (versitygw; left out where it is not installed): committing them would take an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import s3_servers
import toy
from common import in_fresh_process, memory_peak, report

BUCKET = "status"


def make(folder: Path, shards: int) -> None:
    """A run of the toy pipeline: records of all shards but one of each stage."""
    from nlsim.config import parse_config
    from nlsim.pipeline import registry
    from nlsim.pipeline.run import Run
    from nlsim.store.records import CommitRecord, ObjectRecord, commit_key

    toy.SHARDS = shards
    registry.pipeline_of = lambda _config: toy.toy()
    settings = {"name": "status", "subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}}
    run = Run.create(str(folder), parse_config(settings))
    entry = ObjectRecord(key="data/000000-0123456789abcdef/values.safetensors", size=152, sha256="0" * 64)
    for stage in ("numbers", "squares"):
        artifact = run.artifact(stage)
        for shard in range(shards - 1):
            record = CommitRecord(
                stage=stage,
                fingerprint=artifact.fingerprint,
                shard=shard,
                shards=shards,
                objects={"values.safetensors": entry},
                counts={"values": 10},
                code_version="0",
                engine={"host": "host"},
                started=1.8e9 + shard // 64,
                seconds=0.9,
                attempt="0123456789abcdef",
            )
            path = folder / artifact.root / commit_key(shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(record.to_bytes())


def look(shards: int, words: list[str]) -> dict[str, Any]:
    """The command in this process, everything imported by it included; what it printed is checked."""
    started = time.perf_counter()
    with memory_peak() as peak:
        from nlsim.cli.main import main
        from nlsim.pipeline import registry

        toy.SHARDS = shards
        registry.pipeline_of = lambda _config: toy.toy()
        sys.argv = ["nlsim", *words]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main()
    if words[0] == "status":
        stages = json.loads(printed.getvalue())["stages"]
        assert [stage["missing"] for stage in stages] == [1, 1, 1], printed.getvalue()
        assert stages[0]["first_missing"] == [shards - 1]
    else:
        assert printed.getvalue().strip().endswith("timeline.html")
    return {"seconds": round(time.perf_counter() - started, 2), "cpu_seconds": round(time.process_time(), 2), **peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=50_000, help="of each of two stages")
    parser.add_argument("--part", choices=["status", "timeline"])
    parser.add_argument("--url")
    parser.add_argument("--json", action="store_true", help="the default; for the sake of the other benchmarks")
    arguments = parser.parse_args()
    words = {"status": ["status", arguments.url, "--json"]}
    words["timeline"] = ["report", "--run", arguments.url, "--page", "timeline"]
    if arguments.part:
        print(json.dumps(look(arguments.shards, words[arguments.part])))
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        for shards in (arguments.shards // 10, arguments.shards):
            run = folder / "gateway" / BUCKET / str(shards)
            make(run, shards)
            for part in ("status", "timeline"):
                found = in_fresh_process(__file__, part, url=run, shards=shards)
                results[f"directory, {part}, 2 x {shards:,} shards"] = found
                print(found, file=sys.stderr)
        with contextlib.suppress(FileNotFoundError):
            os.environ.update(stack.enter_context(s3_servers.versitygw(folder / "gateway")))
            for shards in (arguments.shards // 10, arguments.shards):
                found = in_fresh_process(__file__, "status", url=f"s3://{BUCKET}/{shards}", shards=shards)
                results[f"versitygw, status, 2 x {shards:,} shards"] = found
                print(found, file=sys.stderr)
    report("status", {"shards": arguments.shards}, {"results": results})


if __name__ == "__main__":
    main()
