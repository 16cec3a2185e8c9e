"""What predictions cost beside the model: tokenizing, packing, laying out, reading answers, storing tiles.

The real path of stage `simulate` (prompts of `positions: last`, tries, micro-batches, tiles, commit) with the decoder
and the head left out. Peak memory is that of this process; with `--predictions` raised fourfold it should not change.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import numpy as np
import torch
from common import WORDS, memory_peak, report

from nlsim.lm.config import LmConfig
from nlsim.lm.packed import PackedEngine
from nlsim.lm.trie import TriePass, causal_groups, read_groups
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.prompts import LastPrompts, Text, simulation_prompts
from nlsim.simulate.stage import fill
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects

TEXTS, TILE = 1000, 256


class Nothing:
    """A decoder that does everything but compute."""

    def hidden(self, trie: TriePass) -> torch.Tensor:
        list(causal_groups(trie.plan))
        if len(trie.plan.reads_R):
            list(read_groups(trie.plan))
        return torch.empty((len(trie.plan.reads_R), 1))


class Constant:
    """A head that says the same of every read."""

    device = torch.device("cpu")

    def choices(self, hidden_RD: torch.Tensor, choices_C: torch.Tensor) -> torch.Tensor:
        return torch.full((len(hidden_RD), len(choices_C)), -2.3)


def engine(tokenizer: Any) -> PackedEngine:
    """The packed engine around no model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=8192, **shape))
    made = PackedEngine(LmConfig(model="none"), model, tokenizer)
    made.backbone, made.head = Nothing(), Constant()  # type: ignore[assignment]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="50,000 predictions")
    speeds = "predictions/s of models, for the share of the time"
    parser.add_argument("--per-second", type=float, nargs="+", default=[150.0, 900.0], help=speeds)
    parser.add_argument("--json", action="store_true", help="print JSON (the default is a line)")
    arguments = parser.parse_args()
    count = 50_000 if arguments.quick else arguments.predictions
    from nlsim.lm.loading import load_tokenizer

    made = engine(load_tokenizer(LmConfig(model="smollm2-135m")))
    rng = np.random.default_rng(0)
    texts = [Text([f" {WORDS[i]}" for i in rng.integers(len(WORDS), size=32)], [31]) for _ in range(TEXTS)]
    explanations = [" ".join(WORDS[i] for i in rng.integers(len(WORDS), size=25)) for _ in range(-(-count // TEXTS))]
    config = SimulateConfig(positions="last")
    with tempfile.TemporaryDirectory() as folder, memory_peak() as peak:
        started = time.perf_counter()
        prompts = simulation_prompts(config, LmConfig(), made, texts)
        assert isinstance(prompts, LastPrompts)
        writer = Artifact(open_objects(folder), "simulate", "0" * 16, 1).begin(0)
        for tile, start in enumerate(range(0, len(explanations), TILE)):
            some = explanations[start : start + TILE]
            logprobs_LRC = np.empty((len(some), TEXTS, 10), np.float16)
            mass_LR = np.empty((len(some), TEXTS), np.float16)
            for _ in fill(logprobs_LRC, mass_LR, made.choose(prompts.trees(some), prompts.choices), False):
                pass
            arrays = {"latent": np.arange(len(some)), "logprobs": logprobs_LRC, "mass": mass_LR}
            writer.arrays(f"tile-{tile:04d}", arrays)
        writer.commit()
        seconds = time.perf_counter() - started
    predictions = len(explanations) * TEXTS
    shares = {f"{speed:g}": speed * seconds / predictions for speed in arguments.per_second}
    results = {
        "predictions": predictions,
        "seconds": seconds,
        "microseconds_per_prediction": 1e6 * seconds / predictions,
        "share_of_time_at_predictions_per_s": shares,
        "memory": peak,
    }
    if arguments.json:
        report("bookkeeping", {"texts": TEXTS, "tile": TILE}, results)
        return
    each = results["microseconds_per_prediction"]
    print(f"{predictions:,} predictions: {seconds:.1f} s, {each:.1f} µs each; {json.dumps(shares)}")


if __name__ == "__main__":
    main()
