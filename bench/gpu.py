"""The packed engine on a GPU: is it right, and how much of the device's arithmetic does it use?

A Llama with random weights, made on the device. Correct: log-probabilities of ten choices on random prompts against
plain transformers, one prompt at a time, in the same precision; and the errors of both against float32, of which ours
may be at most 1.5 times the library's. Fast: predictions of a 48-token suffix each behind 725 + 25 shared tokens, for
several sizes of micro-batch, with and without torch.compile; the roofline is the rate of the model's own matrix
products in the same precision.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch

from nlsim.lm.bench import Prompts, measure_engine
from nlsim.lm.config import LmConfig
from nlsim.lm.packed import PackedEngine
from nlsim.lm.plain import TransformersEngine

SHAPES = {  # hidden size, layers, feed-forward size, heads, key-value heads, vocabulary
    "tiny": (64, 3, 128, 4, 2, 500),
    "1b": (2048, 16, 8192, 32, 8, 128256),
    "8b": (4096, 32, 14336, 32, 8, 128256),
}
WORST_ERROR = 1.5
"""Our error against float32 may be this many times that of the library in the same precision."""


def make(shape: str, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Any:
    """A Llama with random weights on `device`. The same seed gives the same weights in every precision."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width, layers, hidden, heads, groups, vocabulary = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, intermediate_size=hidden,
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model = model.to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:  # rounded to bfloat16, so that all precisions have the same weights
            drawn = torch.randn(parameter.shape, generator=generator, device=device, dtype=torch.bfloat16)
            parameter.data.copy_(drawn.mul_(0.7 * parameter.shape[-1] ** -0.5))
        else:
            parameter.data.fill_(1.0)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)
    return model.eval().requires_grad_(False)


def answers(engine: PackedEngine | TransformersEngine, prompts: Prompts, vocabulary: int, tries: int) -> np.ndarray:
    """[tries * texts, 10] log-probabilities."""
    trees = prompts.trees(vocabulary)
    chosen = [next(trees) for _ in range(tries)]
    return np.concatenate([found.logprobs_RC for found in engine.choose(chosen, range(10))])


def errors(shape: str, device: torch.device, dtype: torch.dtype, texts: int) -> dict[str, float]:
    """Differences of log-probabilities, in nats, on 2 x `texts` prompts."""
    vocabulary = SHAPES[shape][-1]
    prompts = Prompts(prefix=725, explanation=25, suffix=48, texts=texts)
    config = LmConfig(model=f"random-{shape}", compile=False)
    found = {}
    for name, precision in (("exact", torch.float32), ("library", dtype)):
        model = make(shape, device, precision)
        found[name] = answers(TransformersEngine(config, model, ()), prompts, vocabulary, 2)
        if name == "library":
            found["ours"] = answers(PackedEngine(config, model, ()), prompts, vocabulary, 2)
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
    ours, library = (float(np.abs(found[name] - found["exact"]).mean()) for name in ("ours", "library"))
    return {
        "ours_against_library_mean": float(np.abs(found["ours"] - found["library"]).mean()),
        "ours_against_library_largest": float(np.abs(found["ours"] - found["library"]).max()),
        "ours_against_float32_mean": ours,
        "library_against_float32_mean": library,
        "ratio": ours / max(library, 1e-7),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="8b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[8192, 16384, 32768])
    parser.add_argument("--texts", type=int, default=682, help="predictions per explanation")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--compile", choices=("no", "yes", "both"), default="both")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    started = time.perf_counter()
    agreement = errors(arguments.shape, device, dtype, min(arguments.texts, 24))
    rows = []
    prompts = Prompts(prefix=725, explanation=25, suffix=48, texts=arguments.texts)
    for compiled in {"no": (False,), "yes": (True,), "both": (False, True)}[arguments.compile]:
        model = make(arguments.shape, device, dtype)
        engine = PackedEngine(LmConfig(model=f"random-{arguments.shape}", compile=compiled), model, ())
        for batch_tokens in arguments.batch_tokens:
            engine.batch_tokens = batch_tokens
            found = measure_engine(engine, model, SHAPES[arguments.shape][-1], prompts, arguments.seconds)
            row = {"compile": compiled, "batch_tokens": batch_tokens, **found._asdict(), "roofline": found.roofline}
            rows.append(row)
            print(
                f"compile={compiled!s:5} {batch_tokens:6} tokens: {found.predictions_per_s:9.1f} predictions/s, "
                f"{found.flops_per_s / 1e12:7.2f} of {found.peak_flops_per_s / 1e12:7.2f} TFLOP/s "
                f"({100 * found.roofline:.0f} %), {found.memory_bytes / 2**30:.1f} GiB",
                file=sys.stderr,
            )
        del engine, model
    result = {
        "benchmark": "gpu",
        "device": rows[0]["device"],
        "torch": torch.__version__,
        "shape": arguments.shape,
        "dtype": arguments.dtype,
        "agreement": agreement,
        "runs": rows,
        "seconds": time.perf_counter() - started,
    }
    best = max(rows, key=lambda row: row["predictions_per_s"])
    if arguments.json:
        print(json.dumps(result, indent=1))
    else:
        print(
            f"{best['predictions_per_s']:.1f} predictions/s, {100 * best['roofline']:.0f} % of the roofline; "
            f"error {agreement['ratio']:.2f} times the library's"
        )
    if agreement["ratio"] > WORST_ERROR:
        sys.exit(f"answers are wrong: {agreement}")


if __name__ == "__main__":
    main()
