"""Language-model engines on the same model and prompts: predictions per second, memory, and whether they agree.

A random Llama answers prompts of a 750-token shared prefix and a 48-token suffix each, read after the last token:

- `naive`: transformers, one whole prompt at a time, only the last logits;
- `padded`: transformers with the prefix's key-value cache computed once and put before batches of suffixes, at the
  batch size that is best of three;
- `packed`: nlsim's default engine;
- `vllm`: vLLM with prefix caching, where `make vllm` has installed its CPU build.

Each runs in a process of its own (forked once the libraries are imported, which takes longer than the quick
measurements), in float32, and writes its answers, which are compared with the naive ones. `packed` runs twice, the
second time on four times as many prompts: memory should not grow with them. Its bookkeeping (packing alone, without any
model) is timed as well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nlsim.lm.prompts import PromptTree

ROOT = Path(__file__).parents[1]
VLLM = ROOT / ".venv-vllm" / "bin" / "python"
PREFIX, SUFFIX, VOCABULARY, CHOICES = 750, 48, 4096, list(range(10))
SHAPES = {  # hidden size, layers, feed-forward size, heads, key-value heads
    "5m": (256, 6, 704, 4, 2),
    "50m": (768, 8, 2048, 12, 4),
}
TOLERANCE = {"padded": 1e-3, "packed": 1e-3, "vllm": 1e-2}
"""Largest difference of log-probabilities from the naive ones, in nats."""


def save(name: str, folder: Path) -> dict[str, Any]:
    """Write a random model with a tokenizer that vLLM accepts."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    width, layers, hidden, heads, groups = SHAPES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, intermediate_size=hidden,
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=0.05,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))  # noqa: S106 - a word
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    parameters = sum(p.numel() for p in model.model.layers.parameters())
    return {
        "name": name,
        "parameters_in_layers": parameters,
        "hidden_size": width,
        "layers": layers,
        "dtype": "float32",
    }


def prompts(count: int) -> PromptTree:
    """The same prompts in every process; fewer are a beginning of more."""
    from nlsim.lm.prompts import PromptTree, leaf

    prefix = np.random.default_rng(0).integers(3, VOCABULARY, size=PREFIX)
    suffixes = np.random.default_rng(1).integers(3, VOCABULARY, size=(count, SUFFIX))
    return PromptTree(prefix, np.empty(0, dtype=np.int64), tuple(leaf(suffix) for suffix in suffixes))


def engine_runner(engine: str, folder: Path) -> Callable[[PromptTree], np.ndarray]:
    """One of nlsim's engines."""
    from nlsim.lm.config import LmConfig
    from nlsim.lm.engine import load_engine

    name = {"naive": "transformers"}.get(engine, engine)
    settings = {"model": str(folder), "engine": name, "dtype": "float32", "device": "cpu"}
    loaded = load_engine(LmConfig.model_validate({**settings, "vllm": {"max_model_len": 1024}}))
    return lambda tree: next(iter(loaded.choose([tree], CHOICES))).logprobs_RC


def padded_runner(folder: Path) -> Callable[[PromptTree], np.ndarray]:
    """What one writes with transformers: the prefix's cache, expanded over a batch of suffixes."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def run(tree: PromptTree, batch: int = 0) -> np.ndarray:
        if not batch:
            batch = best(tree)
        prefix = model.model(torch.from_numpy(tree.tokens)[None], use_cache=True).past_key_values
        layers = [(layer.keys, layer.values) for layer in prefix.layers]
        suffixes = torch.from_numpy(np.stack([branch.tokens for branch in tree.branches]))
        parts = []
        for ids in suffixes.split(batch):
            expanded = [(k.expand(len(ids), -1, -1, -1), v.expand(len(ids), -1, -1, -1)) for k, v in layers]
            mask = torch.ones(len(ids), len(tree.tokens) + ids.shape[1], dtype=torch.long)
            cache = DynamicCache(expanded)
            out = model(input_ids=ids, attention_mask=mask, past_key_values=cache, logits_to_keep=1)
            parts.append(out.logits[:, -1].float().log_softmax(-1)[:, CHOICES])
        return torch.cat(parts).numpy()

    sizes: list[int] = []

    def best(tree: PromptTree) -> int:
        if not sizes:
            from nlsim.lm.prompts import PromptTree as Tree

            times = []
            for size in (8, 32, 128):
                some = Tree(tree.tokens[:PREFIX], tree.reads, tree.branches[:size])
                run(some, size)
                started = time.perf_counter()
                run(some, size)
                times.append(((time.perf_counter() - started) / len(some.branches), size))
            sizes.append(min(times)[1])
        return sizes[0]

    return run


def part(engine: str, folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Measure one engine in this process: answers to a file; returns figures."""
    import torch

    torch.set_num_threads(threads)
    run = padded_runner(folder) if engine == "padded" else engine_runner(engine, folder)
    run(prompts(min(count, 256 if engine != "naive" else 2)))  # allocates, compiles, chooses sizes
    tree = prompts(count)
    started = time.perf_counter()
    answers = run(tree)
    seconds = time.perf_counter() - started
    np.save(folder / f"{engine}.npy", answers)
    peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    figures = {"predictions": count, "seconds": seconds, "peak_memory_bytes": sum(peaks)}
    if engine == "packed":
        figures["bookkeeping_fraction"] = bookkeeping(tree) / seconds
    return figures


def bookkeeping(tree: PromptTree) -> float:
    """Seconds of cutting the prompts into micro-batches and laying those out, without a model."""
    from nlsim.lm.packed import BATCH_TOKENS
    from nlsim.lm.packing import batches, plan, stream
    from nlsim.lm.trie import causal_groups, read_groups

    started = time.perf_counter()
    ends: tuple[int, ...] = ()
    for batch in batches((piece for made in stream([tree], 2048) for piece in made), lambda: BATCH_TOKENS["cpu"]):
        layout = plan(batch, ends)
        ends = layout.ends
        list(causal_groups(layout))
        if len(layout.reads_R):
            list(read_groups(layout))
    return time.perf_counter() - started


def measure(engine: str, folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Run `part` in a process of its own."""
    run = in_vllm if engine == "vllm" else forked
    found = run(part, engine, folder, count, threads)
    return {"engine": engine, **found, "predictions_per_s": found["predictions"] / found["seconds"]}


def forked(function: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Call in a fork of this process, which has imported everything and computed nothing."""
    import torch  # noqa: F401
    from transformers import AutoModelForCausalLM, DynamicCache, LlamaForCausalLM  # noqa: F401

    import nlsim.lm.packed
    import nlsim.lm.plain  # noqa: F401

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(function(*arguments)))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{arguments[0]}: failed, see above")
    return answers.get()


def in_vllm(_: object, engine: str, folder: Path, count: int, threads: int) -> dict[str, Any]:
    """Call `part` in vLLM's environment."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    environment["VLLM_CPU_KVCACHE_SPACE"] = "1"
    options = ["--part", engine, "--folder", folder, "--count", str(count), "--threads", str(threads)]
    done = subprocess.run([VLLM, __file__, *options], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(model: str, counts: dict[str, int], threads: int) -> dict[str, Any]:
    """All engines in turn, their speeds relative to `packed`'s, and how far they disagree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = forked(save, model, folder)
        engines = [measure(engine, folder, count, threads) for engine, count in counts.items()]
        exact = np.load(folder / "naive.npy")
        for found in engines:
            answers = np.load(folder / f"{found['engine']}.npy")
            both = min(len(exact), len(answers))
            found["largest_difference"] = float(np.abs(answers[:both] - exact[:both]).max())
        more = measure("packed", folder, 4 * counts["packed"], threads)
    wrong = [f["engine"] for f in engines if f["largest_difference"] > TOLERANCE.get(f["engine"], 0.0)]
    if wrong:
        sys.exit(f"answers differ: {', '.join(wrong)}")
    packed = next(found for found in engines if found["engine"] == "packed")
    return {
        "model": facts,
        "engines": engines,
        "packed_over": {
            f["engine"]: packed["predictions_per_s"] / f["predictions_per_s"] for f in engines if f is not packed
        },
        "packed_four_times_as_many": more,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="5m", help="size of the random Llama")
    parser.add_argument("--quick", action="store_true", help="fewer prompts, and no vLLM: under a minute")
    parser.add_argument("--json", action="store_true", help="print JSON (the default is a table)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print("\n" + json.dumps(part(arguments.part, arguments.folder, arguments.count, arguments.threads)))
        return
    large = arguments.model == "50m"
    counts = {"naive": 8 if large else 24, "padded": 256, "packed": 256 if large else 512}
    if not arguments.quick:
        counts = {"naive": 60 if large else 200, "padded": 512 if large else 1024, "packed": 1024 if large else 4096}
        if VLLM.exists():
            counts["vllm"] = 1024
    found = compare(arguments.model, counts, arguments.threads)
    if arguments.json:
        from common import hardware

        settings = {"prefix": PREFIX, "suffix": SUFFIX, "threads": arguments.threads, "quick": arguments.quick}
        print(json.dumps({"benchmark": "lm_engines", "hardware": hardware(), "settings": settings, **found}, indent=1))
        return
    for one in found["engines"]:
        memory = one["peak_memory_bytes"] / 2**20
        print(f"{one['engine']:>8} {one['predictions_per_s']:10.1f} predictions/s {memory:8.0f} MB")
    for engine, factor in found["packed_over"].items():
        print(f"packed is {factor:.1f} times {engine}")


if __name__ == "__main__":
    main()
