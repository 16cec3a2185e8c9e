"""Reading what one latent does, from an index on disk and from S3.

An index of random codes (16,384 latents, 32 per token) is made by the index stage. From disk: the time of a latent's
activations, of its 40 strongest contexts, and of 100 silent contexts that match them, over random latents, in a process
that has opened the index and read every latent once. From S3: the requests of one read. S3 is the server that
NLSIM_TEST_S3_ENDPOINT names, with the usual AWS variables, or moto's in this process.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import report

from nlsim.config import parse_config
from nlsim.corpus.splits import Split
from nlsim.latents.cache_stage import write_codes
from nlsim.latents.contexts import ContextSampler
from nlsim.latents.encode import Encoded
from nlsim.latents.index import LatentIndex
from nlsim.latents.index_stage import Index
from nlsim.latents.silent import SilentSampler
from nlsim.pipeline.stage import StageContext
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects

WIDTH, K, CONTEXT, VOCABULARY, SHARDS = 16_384, 32, 256, 8_192, 2


def make(url: str, rows: int) -> LatentIndex:
    """An index of random codes: latents are as frequent as 1 / (rank + 100)."""
    rng = np.random.default_rng(0)
    store = open_objects(url)
    tokens, cache = Artifact(store, "tokens", "0" * 16, 1), Artifact(store, "cache", "0" * 16, 1)
    index = Artifact(store, "index", "0" * 16, SHARDS)
    writer = tokens.begin(0)
    writer.arrays(
        "rows",
        {
            "tokens": rng.integers(1, VOCABULARY, (rows, CONTEXT), dtype=np.int32),
            "length": np.full(rows, CONTEXT, np.int32),
            "split": np.sort(rng.integers(1, 5, rows)).astype(np.uint8),
        },
    )
    writer.commit()
    chance = 1 / (np.arange(WIDTH) + 100)
    latent = rng.choice(WIDTH, (rows * CONTEXT, K), p=chance / chance.sum()).astype(np.uint16)
    latent.sort(axis=1)
    value = rng.gamma(2, 1, latent.shape).astype(np.float16)
    value[:, 1:][latent[:, 1:] == latent[:, :-1]] = 0
    value[::CONTEXT] = 0
    writer = cache.begin(0)
    encoded = Encoded(latent, value, None, np.zeros(0, np.int64), 0)
    write_codes(writer, encoded, np.arange(rows * CONTEXT), np.ones(WIDTH, np.float32))
    splits = [split.key for split in Split if split]
    writer.json("coder", {"width": WIDTH, "per_token": K, "splits": splits})
    writer.commit()
    config = parse_config({"name": "bench", "subject": {}, "coder": {}})
    for shard in range(SHARDS):
        writer = index.begin(shard)
        inputs = {"tokens": tokens, "cache": cache}
        Index().execute(StageContext(config, shard, SHARDS, inputs, writer, lambda *_: None))
        writer.commit()
    return LatentIndex(tokens, cache, index)


def milliseconds(work: Callable[[int], Any], latents: list[int]) -> dict[str, float]:
    """Median and 99 % quantile of the time of `work(latent)`, the second time."""
    spent = []
    for latent in latents:
        work(latent)
    for latent in latents:
        started = time.perf_counter()
        work(latent)
        spent.append(1000 * (time.perf_counter() - started))
    return {"median": round(float(np.median(spent)), 3), "p99": round(float(np.quantile(spent, 0.99)), 3)}


def from_disk(folder: Path, rows: int, reads: int) -> dict[str, Any]:
    index = make(str(folder), rows)
    latents = np.random.default_rng(1).permutation(WIDTH)[:reads].tolist()
    contexts, silent = ContextSampler(index), SilentSampler(index)
    return {
        "activations_per_latent": round(float(index.table.active_MS.sum() / WIDTH), 1),
        "activations_ms": milliseconds(index.activations, latents),
        "top_40_contexts_ms": milliseconds(lambda m: contexts.draw(m, Split.EXPLAIN, 40, "top"), latents),
        "quantile_40_contexts_ms": milliseconds(lambda m: contexts.draw(m, Split.EXPLAIN, 40, "quantiles"), latents),
        "silent_100_contexts_ms": milliseconds(
            lambda m: silent.random(contexts.draw(m, Split.SCORE, 100, "quantiles"), Split.SCORE, 100), latents
        ),
    }


def from_s3(rows: int) -> dict[str, Any]:
    """Every HTTP request that one read makes, once the latent's shard has been opened by another read."""
    import boto3
    from botocore.httpsession import URLLib3Session

    server = None
    if endpoint := os.environ.get("NLSIM_TEST_S3_ENDPOINT"):
        os.environ["AWS_ENDPOINT_URL"] = endpoint
    else:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://{host}:{port}",
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",  # noqa: S106
        )
    os.environ.setdefault("AWS_REGION", "us-east-1")
    bucket = f"nlsim-bench-{time.time_ns()}"
    client = boto3.session.Session(region_name=os.environ["AWS_REGION"]).client("s3")
    client.create_bucket(Bucket=bucket)
    index = make(f"s3://{bucket}/run", rows)
    index.activations(0)
    index.activations(WIDTH - 1)
    requests: list[str] = []
    send = URLLib3Session.send

    def counted(self: Any, request: Any) -> Any:
        response = send(self, request)
        ranged = request.headers.get("Range", b"")
        requests.append(f"{request.method} {ranged.decode() if isinstance(ranged, bytes) else ranged}".strip())
        return response

    URLLib3Session.send = counted
    latents = [1, WIDTH // 3, WIDTH // 2, WIDTH - 2]
    for latent in latents:
        index.activations(latent)
    URLLib3Session.send = send
    store = open_objects(f"s3://{bucket}/run")
    store.delete([entry.key for entry in store.list()])
    client.delete_bucket(Bucket=bucket)
    if server is not None:
        server.stop()
    return {"requests_per_latent": len(requests) / len(latents), "requests": requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 tokens in place of 1 M")
    parser.add_argument("--json", action="store_true", help="print JSON, which is what is done anyway")
    rows, reads = (390, 200) if parser.parse_args().quick else (3907, 1000)
    folder = Path(tempfile.mkdtemp(prefix="nlsim-bench-"))
    try:
        disk = from_disk(folder, rows, reads)
    finally:
        shutil.rmtree(folder)
    settings = {"latents": WIDTH, "k": K, "tokens": rows * CONTEXT, "reads": reads}
    target = "median of activations_ms < 1; one ranged GET per latent"
    report("latent_read", settings, {"target": target, "disk": disk, "s3": from_s3(390)})


if __name__ == "__main__":
    main()
