"""Choosing and loading: what cannot work is said in one line; adapters and generation work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_models as models
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nlsim.errors import DataError, NlsimError, UsageError
from nlsim.lm import writing
from nlsim.lm.backend import Backbone
from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Sampling, load_engine, pick
from nlsim.lm.loading import context_length, device_of, dtype_of, load_model, load_tokenizer
from nlsim.lm.packed import PackedEngine
from nlsim.lm.plain import TransformersEngine
from nlsim.lm.prompts import leaf
from nlsim.lm.writing import SeededNoise


class Words:
    """A tokenizer of numbers."""

    pad_token_id = None
    eos_token_id = 2

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, ids))

    def __len__(self) -> int:
        return models.VOCABULARY


def here(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    monkeypatch.setattr("nlsim.lm.engine._installed", lambda package: package in packages)


def test_auto_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By what is configured, installed, and known of the checkpoint."""
    quantized = tmp_path / "model"
    quantized.mkdir()
    (quantized / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    here(monkeypatch, "torch", "vllm")
    threads = f"computes every shared prefix once; runs on {torch.get_num_threads()} CPU threads"
    assert pick(LmConfig(model="owner/m", device="cpu")) == ("packed", threads)
    assert pick(LmConfig(model="owner/m", endpoint={"base_url": "http://h/v1"}))[0] == "openai"
    assert pick(LmConfig(model="owner/m", engine="transformers")) == ("transformers", "configured")
    assert pick(LmConfig(model="owner/Llama-70B-AWQ-INT4")) == ("vllm", "the checkpoint is quantized (awq)")
    assert pick(LmConfig(model=str(quantized))) == ("vllm", "the checkpoint is quantized (gptq)")
    assert pick(LmConfig(model="owner/m", vllm={"tensor_parallel": 2}))[0] == "vllm"
    assert pick(LmConfig(model="owner/m", vllm={"quantization": "fp8"}))[0] == "vllm"
    here(monkeypatch, "torch")
    assert pick(LmConfig(model=str(quantized), device="cpu"))[0] == "packed"
    here(monkeypatch)
    with pytest.raises(UsageError, match="no engine is installed"):
        pick(LmConfig(model="owner/m"))


@pytest.mark.parametrize(
    "config",
    [
        LmConfig(),
        LmConfig(model="/no/such/folder"),
        LmConfig(model="m", engine="openai"),
        LmConfig(model="m", engine="openai", endpoint={"base_url": "http://h/v1", "route": "completions"}),
        LmConfig(model="m", device="abacus"),
        LmConfig(model="m", device="cuda:99"),
    ],
)
def test_what_cannot_work(config: LmConfig) -> None:
    with pytest.raises(NlsimError) as caught:
        load_engine(config)
    assert caught.value.exit_code in (2, 3)
    assert caught.value.todo


def test_precision_follows_the_device() -> None:
    assert dtype_of(LmConfig(), torch.device("cpu")) == torch.float32
    assert dtype_of(LmConfig(), torch.device("cuda")) == torch.bfloat16
    assert dtype_of(LmConfig(dtype="float16"), torch.device("cpu")) == torch.float16
    assert device_of(LmConfig(device="cpu")).type == "cpu"


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    models.model("llama").save_pretrained(tmp_path)
    with pytest.raises(DataError, match="tokenizer"):
        load_tokenizer(LmConfig(model=str(tmp_path)))


def saved(folder: Path) -> LmConfig:
    """A tiny Llama on disk."""
    models.model("llama").save_pretrained(folder)
    return LmConfig(model=str(folder), device="cpu")


def test_weights_spread_over_devices(tmp_path: Path) -> None:
    """Where accelerate moves tensors between devices (here: one), the answers are the same."""
    accelerate = pytest.importorskip("accelerate")
    config = saved(tmp_path)
    plain = TransformersEngine(config, model=load_model(config), tokenizer=Words())
    spread = accelerate.dispatch_model(load_model(config), {"": "cpu"}, main_device="cpu", force_hooks=True)
    engine = PackedEngine(config.model_copy(update={"compile": False}), model=spread, tokenizer=Words())
    engine.backbone = Backbone(spread)
    tree = models.tree(np.random.default_rng(0), [[[], []], []])
    (found,), (exact,) = engine.choose([tree], range(9)), plain.choose([tree], range(9))
    assert np.abs(found.logprobs_RC - exact.logprobs_RC).max() < 5e-5


def test_a_model_larger_than_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = saved(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def left_over(*_: Any, **__: Any) -> Any:
        return models.model("llama").to("meta"), {"missing_keys": set(), "mismatched_keys": set()}

    for load in (full, left_over):
        monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
        with pytest.raises(UsageError, match="larger than the memory of the GPU"):
            load_model(config)


def test_compiled_layers_give_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile splits the layers around our attention; every micro-batch has another shape."""
    compiled = []

    def compile_quickly(module: torch.nn.Module, **options: Any) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_quickly)
    rng = np.random.default_rng(0)
    trees = [models.tree(rng, [[[], []], [], [[]]], 9) for _ in range(6)]
    config = LmConfig(model="m", compile=True, batch_tokens=30)
    engine = PackedEngine(config, model=models.model("qwen3"), tokenizer=Words())
    plain = TransformersEngine(LmConfig(model="m"), model=models.model("qwen3"), tokenizer=Words())
    for found, exact in zip(engine.choose(trees, range(9)), plain.choose(trees, range(9)), strict=True):
        assert np.abs(found.logprobs_RC - exact.logprobs_RC).max() < 5e-5
    assert len(compiled) == 2  # of three layers: the last one runs in two parts


def test_a_prompt_longer_than_the_context() -> None:
    engine = PackedEngine(LmConfig(model="m"), model=models.model("gpt2"), tokenizer=Words())
    plain = TransformersEngine(LmConfig(model="m"), model=models.model("gpt2"), tokenizer=Words())
    for made in (engine, plain):
        with pytest.raises(UsageError, match="257 tokens, the model takes 256"):
            list(made.choose([leaf(np.full(257, 5))], [1]))
        with pytest.raises(UsageError, match="the model takes 256"):
            made.generate([np.full(250, 5)], Sampling(10))


def test_rotary_frequencies_that_depend_on_length_limit_the_context() -> None:
    """Dynamic and long RoPE turn all positions differently once a prompt is longer than in training."""
    model = models.model("llama")
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}
    model.config.rope_parameters = rope
    assert context_length(model) == 64
    model.config.rope_parameters = {"rope_type": "llama3", "original_max_position_embeddings": 64}
    assert context_length(model) == 256


def test_models_that_cannot_be_packed_are_refused() -> None:
    model = models.model("llama")
    model.config.layer_types = ["linear_attention", "full_attention", "full_attention"]
    with pytest.raises(UsageError, match="cannot run llama"):
        Backbone(model)
    sinks = models.model("mistral")
    backbone = Backbone(sinks)
    sinks.model.layers[0].self_attn.is_causal = False
    engine = PackedEngine.__new__(PackedEngine)
    engine.__init__(LmConfig(model="m"), model=sinks, tokenizer=Words())  # type: ignore[misc]
    engine.backbone = backbone
    with pytest.raises(UsageError, match="sinks or is not causal"):
        list(engine.choose([leaf(np.arange(5))], [1]))


def test_greedy_text_is_the_argmax_at_every_step() -> None:
    """Batched, left-padded generation equals one prompt at a time, for learned and rotary positions."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, models.VOCABULARY, size=n) for n in (3, 17, 9, 9)]
    for family in ("llama", "gpt2", "gpt-neox"):
        model = models.model(family)
        expected = []
        for prompt in prompts:
            ids = prompt.tolist()
            for _ in range(6):
                token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
                if token == 2:
                    break
                ids.append(token)
            expected.append("".join(f" {token}" for token in ids[len(prompt) :]))
        engine = PackedEngine(LmConfig(model="m"), model=models.model(family), tokenizer=Words())
        assert [one.text for one in engine.generate(prompts, Sampling(6))] == expected


def test_sampling_is_seeded_per_prompt() -> None:
    """A prompt's text does not depend on what it is batched with; seeds and temperatures matter."""
    rng = np.random.default_rng(1)
    prompts = [rng.integers(3, models.VOCABULARY, size=n) for n in (4, 12, 7)]
    engine = PackedEngine(LmConfig(model="m"), model=models.model("llama"), tokenizer=Words())
    together = engine.generate(prompts, Sampling(8, temperature=3.0, seed=5))
    engine.write_tokens = 1
    assert engine.generate(prompts, Sampling(8, temperature=3.0, seed=5)) == together
    assert engine.generate(prompts, Sampling(8, temperature=3.0, seed=6)) != together


def test_noise_samples_from_the_softmax() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]) * 0.7
    noise = SeededNoise(0.7, [0])
    drawn = torch.cat([noise(torch.empty(1, 0), logits).argmax(-1) for _ in range(4000)])
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert torch.allclose(shares, torch.softmax(logits[0] / 0.7, -1), atol=0.03)


def test_stop_strings_and_ends() -> None:
    read, prompt = writing._read, np.array([3, 4])
    assert read(prompt, [5, 6, 2, 9], Words(), [2], []) == (" 5 6", 3, True)
    assert read(prompt, [5, 6, 7], Words(), [2], []) == (" 5 6 7", 3, False)
    assert read(prompt, [5, 6, 7], Words(), [2], ["6"]) == (" 5 ", 3, True)
    assert read(np.array([], np.int64), [5, 6, 7], Words(), [2], []) == ("5 6 7", 3, False)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft asks transformers for something renamed
def test_adapter(tmp_path: Path) -> None:
    """A LoRA adapter changes the answers to those of the model with its weights added."""
    peft = pytest.importorskip("peft")
    base = models.model("llama")
    base.save_pretrained(tmp_path / "base")
    wrapped: Any = peft.get_peft_model(
        models.model("llama"), peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        exact = wrapped.eval()(input_ids=ids).logits[0, -1].log_softmax(-1)
    config = LmConfig(model=str(tmp_path / "base"), adapter=str(tmp_path / "adapter"), device="cpu")
    engine = PackedEngine(config, model=load_model(config), tokenizer=Words())
    (found,) = engine.choose([leaf(np.arange(5, 25))], range(models.VOCABULARY))
    assert np.allclose(found.logprobs_RC[0], exact.numpy(), atol=1e-4)
    with pytest.raises((DataError, NlsimError)):
        load_model(config.model_copy(update={"adapter": str(tmp_path / "base")}))
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name.replace("q_proj", "k_proj"): value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(DataError, match="Found missing adapter keys"):
        load_model(config)
