"""Detection and fuzzing: scores per second through the packed engine, against one prompt at a time.

SmolLM2-135M-Instruct answers real scoring prompts (instructions, worked examples, five contexts of 32 tokens per
prompt, one answer read for each), once with transformers and once with `packed`; the answers are compared.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator

import numpy as np
import torch
from common import WORDS, report

from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Engine
from nlsim.lm.packed import PackedEngine
from nlsim.lm.plain import TransformersEngine
from nlsim.lm.prompts import PromptTree
from nlsim.lm.templates import Template
from nlsim.score.prompts import InstructedScoring
from nlsim.score.questions import Question, Scorer

EXPLANATIONS = (
    "words that say that an error is raised, such as raises or error",
    "the word “ default” before a value, strongest where the value follows at once",
    "names of containers: list, dict, set, tuple",
    "a comma inside the arguments of a function call",
)
TOLERANCE = 1e-3
"""Largest difference of a log-probability, nats."""


def questions(count: int, fuzzing: bool, seed: int) -> list[Question]:
    """Contexts of 32 tokens, some marked for fuzzing."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        pieces = [f" {WORDS[i]}" for i in rng.integers(len(WORDS), size=32)]
        marked = tuple(bool(mark) for mark in rng.random(32) < (0.1 if fuzzing else 0.0))
        made.append(Question(number, 0, pieces, marked, bool(number % 2), -1))
    return made


def trees(prompts: InstructedScoring, latents: int, per_latent: int, fuzzing: bool) -> Iterator[PromptTree]:
    """One trie per latent."""
    for latent in range(latents):
        yield prompts.tree(EXPLANATIONS[latent % len(EXPLANATIONS)], questions(per_latent, fuzzing, latent))


def run(engine: Engine, made: list[PromptTree], choices: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """Answers and seconds."""
    started = time.perf_counter()
    answers = np.concatenate([found.logprobs_RC for found in engine.choose(made, choices)])
    return answers, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="fewer questions: under a minute")
    parser.add_argument("--json", action="store_true", help="print JSON (the default is a table)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    latents, per_latent, alone = (2, 10, 5) if arguments.quick else (8, 40, 20)
    config = LmConfig(model=arguments.model, dtype="float32", device="cpu")
    packed = PackedEngine(config)
    plain = TransformersEngine(config, packed.model, packed.tokenizer)
    results = {}
    scorers: tuple[Scorer, ...] = ("detection", "fuzzing")
    for scorer in scorers:
        prompts = InstructedScoring(scorer, 5, Template(packed.tokenizer))
        made = list(trees(prompts, latents, per_latent, scorer == "fuzzing"))
        few = list(trees(prompts, 1, alone, scorer == "fuzzing"))
        run(packed, few, prompts.choices)  # allocates
        answers, seconds = run(packed, made, prompts.choices)
        exact, slow = run(plain, few, prompts.choices)
        ours, _ = run(packed, few, prompts.choices)
        difference = float(np.abs(ours - exact).max())
        assert difference < TOLERANCE, f"answers differ by {difference}"
        results[scorer] = {
            "packed_per_s": len(answers) / seconds,
            "one_at_a_time_per_s": len(exact) / slow,
            "factor": len(answers) / seconds * slow / len(exact),
            "largest_difference": difference,
        }
    if arguments.json:
        settings = {"model": arguments.model, "contexts_per_prompt": 5, "threads": arguments.threads}
        report("scoring", {**settings, "quick": arguments.quick}, results)
        return
    for scorer, found in results.items():
        print(f"{scorer}: {found['packed_per_s']:.1f} answers/s, {found['factor']:.1f} times one prompt at a time")


if __name__ == "__main__":
    main()
