"""Caching sparse activations: nlsim's cache and index stages against a straightforward dense-then-nonzero cache.

Both run the same random subject (6 layers, hooked at layer 2) and the same random TopK coder (k = 32, 16,384 latents)
in float32, each in a process of its own, in turns.

The baseline does what published pipelines do: all layers run, the top k are scattered into a dense [batch, latents]
matrix, its nonzero entries are collected in memory as int64 locations and float values, and written at the end, one
file per range of latents. nlsim stops at the hooked layer, keeps (index, value) pairs, writes shards as it goes, and
sorts them by latent. The baseline is run on a quarter of the tokens (its time per token does not depend on their
number, its memory does); nlsim on that quarter and on all of them, which shows that its memory does not grow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import in_fresh_process, memory_peak, report

if TYPE_CHECKING:
    from nlsim.coders.sparse import SparseCoder
    from nlsim.config import Config
    from nlsim.subject.model import Subject

WIDTH, K, D, LAYERS, HOOKED, VOCABULARY, CONTEXT = 16_384, 32, 64, 6, 2, 8_192, 256
BATCH = 16
SPLITS = 5


def models(folder: Path) -> None:
    """Write the random subject and coder to `folder`."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from nlsim.coders.coder import CoderMeta
    from nlsim.coders.file import write_coder
    from nlsim.coders.sparse import SparseCoder, shapes

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=4 * D,
        max_position_embeddings=CONTEXT,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder / "subject")
    meta = CoderMeta(
        kind="transcoder", hookpoint=f"layers.{HOOKED}.mlp", d_in=D, d_out=D, width=WIDTH, activation="topk", k=K
    )
    tensors = {name: torch.randn(shape) * 0.05 for name, shape in shapes(meta).items()}
    write_coder(SparseCoder(meta, tensors), folder / "coder.safetensors")


def text(rows: int) -> np.ndarray:
    """Random tokens [rows, context], BOS first."""
    tokens = np.random.default_rng(0).integers(1, VOCABULARY, (rows, CONTEXT), dtype=np.int32)
    tokens[:, 0] = 0
    return tokens


def configuration(folder: Path, rows: int, shard_tokens: int = 1) -> Config:
    from nlsim.config import parse_config

    budget = {"train": 0, "explain": rows, "score": 0, "calibrate": 0, "evaluate": 0}
    return parse_config(
        {
            "name": "bench",
            "corpus": {"context": CONTEXT, "rows": budget},
            "subject": {"model": str(folder / "subject"), "device": "cpu", "batch_tokens": BATCH * CONTEXT},
            "coder": {"path": str(folder / "coder.safetensors")},
            "cache": {"shard_tokens": shard_tokens},
            "index": {"shard_tokens": shard_tokens},
        }
    )


def ours(folder: Path, rows: int, shard_tokens: int) -> dict[str, Any]:
    """The cache and index stages, through the store in a directory."""
    from nlsim.corpus.splits import Split
    from nlsim.latents.cache_stage import Cache
    from nlsim.latents.cache_stage import models as load_models
    from nlsim.latents.index_stage import Index
    from nlsim.pipeline.stage import StageContext
    from nlsim.store.artifact import Artifact
    from nlsim.store.objects import open_objects

    config = configuration(folder, rows, shard_tokens)
    store = open_objects(folder / f"run-{rows}")
    artifacts = {"tokens": Artifact(store, "tokens", "0" * 16, 1)}
    writer = artifacts["tokens"].begin(0)
    full, split = np.full(rows, CONTEXT, np.int32), np.full(rows, int(Split.EXPLAIN), np.uint8)
    writer.arrays("rows", {"tokens": text(rows), "length": full, "split": split})
    writer.commit()
    load_models(config.subject, config.coder)
    result: dict[str, Any] = {"tokens": rows * CONTEXT}
    for stage in (Cache(), Index()):
        shards = stage.shards(config)
        output = artifacts[stage.name] = Artifact(store, stage.name, "0" * 16, shards)
        started, cpu = time.perf_counter(), time.process_time()
        with memory_peak() as peak:
            for shard in range(shards):
                inputs = {name: artifacts[name] for name in stage.inputs}
                writer = output.begin(shard)
                stage.execute(StageContext(config, shard, shards, inputs, writer, lambda *_: None))
                writer.commit()
        records = output.records.values()
        active = sum(record.counts["active"] for record in records)
        stored = sum(entry.size for record in records for entry in record.objects.values())
        result[stage.name] = {
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "shards": shards,
            "bytes_per_activation": round(stored / active, 3),
            **peak,
        }
    return result


def baseline(folder: Path, rows: int) -> dict[str, Any]:
    """All layers, dense matrices, nonzero, everything in memory until the end."""
    import torch
    from safetensors.numpy import save_file

    from nlsim.latents.cache_stage import models as load_models

    subject, coder = load_both(load_models, configuration(folder, rows))
    mlp = subject.decoder.get_submodule(f"layers.{HOOKED}.mlp")
    seen: list[torch.Tensor] = []
    mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tokens = torch.from_numpy(text(rows)).long()
    locations, values = [], []
    counts = torch.zeros(WIDTH, dtype=torch.int64)
    started, cpu = time.perf_counter(), time.process_time()
    with memory_peak() as peak, torch.inference_mode():
        for start in range(0, rows, BATCH):
            seen.clear()
            subject.model.base_model(tokens[start : start + BATCH])
            x_BTD = seen[0]
            pre_BTM = torch.relu(x_BTD @ coder.tensors["encoder_MD"].T + coder.tensors["encoder_bias_M"])
            value_BTK, index_BTK = pre_BTM.topk(K, dim=2, sorted=False)
            dense_BTM = torch.zeros_like(pre_BTM).scatter_(2, index_BTK, value_BTK)
            counts += (dense_BTM > 0).sum((0, 1))
            active_BTM = dense_BTM.abs() > 1e-5
            place = active_BTM.nonzero()
            place[:, 0] += start
            locations.append(place)
            values.append(dense_BTM[active_BTM])
        location, value = torch.cat(locations).numpy(), torch.cat(values).numpy()
        target = folder / f"baseline-{rows}"
        target.mkdir()
        bounds = np.linspace(0, WIDTH, SPLITS + 1).astype(int)
        for low, high in itertools.pairwise(bounds):
            mine = (location[:, 2] >= low) & (location[:, 2] < high)
            part = location[mine] - [0, 0, low]
            small = part.max(initial=0) < 2**16
            arrays = {
                "locations": part.astype(np.uint16 if small else np.uint32),
                "activations": value[mine].astype("f2"),
            }
            save_file(arrays, target / f"{low}_{high - 1}.safetensors")
    return {
        "tokens": rows * CONTEXT,
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "bytes_per_activation": round(sum(p.stat().st_size for p in target.iterdir()) / len(value), 3),
        **peak,
    }


def load_both(load: Any, config: Config) -> tuple[Subject, SparseCoder]:
    return load(config.subject, config.coder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, help="tokens that nlsim caches (default: 1 M)")
    parser.add_argument("--quick", action="store_true", help="64,000 tokens")
    parser.add_argument("--json", action="store_true", help="print JSON, which is what is done anyway")
    parser.add_argument("--part", choices=("ours", "baseline"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--shard_tokens", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        found = (
            baseline(arguments.folder, arguments.rows)
            if arguments.part == "baseline"
            else ours(arguments.folder, arguments.rows, arguments.shard_tokens)
        )
        print(json.dumps(found))
        return
    rows = (arguments.tokens or (64_000 if arguments.quick else 1_000_000)) // CONTEXT
    folder = Path(tempfile.mkdtemp(prefix="nlsim-bench-"))
    try:
        models(folder)
        dense, one, four = (
            in_fresh_process(__file__, part, folder=folder, rows=count, shard_tokens=rows // 8 * CONTEXT)
            for part, count in (("baseline", rows // 4), ("ours", rows // 4), ("ours", rows))
        )
    finally:
        shutil.rmtree(folder)
    speeds = {}
    for clock in ("seconds", "cpu_seconds"):
        mine = four["tokens"] / (four["cache"][clock] + four["index"][clock])
        theirs = dense["tokens"] / dense[clock]
        speeds[clock] = {"nlsim": round(mine), "baseline": round(theirs), "ratio": round(mine / theirs, 2)}
    report(
        "cache",
        {"latents": WIDTH, "k": K, "d_model": D, "layers": LAYERS, "hooked": HOOKED, "context": CONTEXT},
        {
            "tokens_per_second": speeds,
            "bytes_per_activation": {"index": four["index"]["bytes_per_activation"], "target": 7},
            "own_memory_mb": {
                stage: {"1x": one[stage]["own_mb"], "4x": four[stage]["own_mb"]} for stage in ("cache", "index")
            },
            "baseline": dense,
            "nlsim_1x": one,
            "nlsim_4x": four,
        },
    )


if __name__ == "__main__":
    main()
