"""Early exit: the time of a capture against the part of the model that it needs, (layer + 1) / layers.

A random GPT-NeoX of 12 layers; the output of every third block is captured, all layers in turns, and the fastest of the
repetitions counts. The whole is the capture at the last block.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from common import report
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject

LAYERS, D, VOCABULARY, CONTEXT, ROWS = 12, 256, 8_192, 128, 8
DEPTHS = (0, 2, 5, 8, 11)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 repetitions in place of 40")
    parser.add_argument("--json", action="store_true", help="print JSON, which is what is done anyway")
    repetitions = 5 if parser.parse_args().quick else 40
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=4 * D,
        max_position_embeddings=CONTEXT,
    )
    subject = Subject(GPTNeoXForCausalLM(config), SubjectConfig(model="random", device="cpu"))
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (ROWS, CONTEXT))
    lengths = np.full(ROWS, CONTEXT)
    best: dict[str, dict[int, float]] = {"seconds": {}, "cpu_seconds": {}}
    for _ in range(repetitions):
        for layer in DEPTHS:
            wall, cpu = time.perf_counter(), time.process_time()
            subject.capture(tokens, lengths, f"layers.{layer}")
            spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
            for clock, value in spent.items():
                best[clock][layer] = min(best[clock].get(layer, value), value)
    rows = [
        {
            "layer": layer,
            "expected": round((layer + 1) / LAYERS, 3),
            **{clock: round(times[layer], 5) for clock, times in best.items()},
            **{
                f"{clock}_off": round(times[layer] / times[LAYERS - 1] / ((layer + 1) / LAYERS) - 1, 3)
                for clock, times in best.items()
            },
        }
        for layer in DEPTHS
    ]
    report(
        "early_exit",
        {"layers": LAYERS, "d_model": D, "tokens": ROWS * CONTEXT, "repetitions": repetitions},
        {"target": "|off| ≤ 0.15: time / whole time is that far from (layer + 1) / layers", "captures": rows},
    )


if __name__ == "__main__":
    main()
