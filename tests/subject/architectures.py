"""Tiny random models of real architectures, with settings that make their peculiarities matter."""

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject

VOCAB = 97
LAYERS = 4
_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}

CONFIGS: dict[str, PreTrainedConfig] = {
    "pythia": GPTNeoXConfig(**_SHAPE, rotary_pct=0.25, use_parallel_residual=True),
    "neox_sequential": GPTNeoXConfig(**_SHAPE, use_parallel_residual=False),
    "llama3": LlamaConfig(
        **_GROUPED,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "qwen2_sliding": Qwen2Config(**_GROUPED, use_sliding_window=True, sliding_window=4, max_window_layers=2),
    "qwen3": Qwen3Config(**_GROUPED, head_dim=16),
    "mistral": MistralConfig(**_GROUPED, sliding_window=5),
    "gemma2": Gemma2Config(
        **_GROUPED, head_dim=16, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=1.0
    ),
    "gemma3": Gemma3TextConfig(
        **_GROUPED,
        head_dim=16,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    ),
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=64),
}


def make_model(name: str) -> PreTrainedModel:
    """A random model whose weights are large enough for every part to show in the logits."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.2 if parameter.ndim > 1 else 0.3))
            if parameter.ndim == 1 and "norm" in parameter_name and "gemma" not in name:
                parameter.add_(1.0)
    return model


def make_subject(name: str) -> Subject:
    return Subject(make_model(name), SubjectConfig(model=name, device="cpu"))
