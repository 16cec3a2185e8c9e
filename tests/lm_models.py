"""Tiny random models of the families that engines must agree on."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
import transformers

from nlsim.lm.prompts import PromptTree

VOCABULARY = 97

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "llama-scaled": (
        "Llama",
        {
            "num_key_value_heads": 1,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
    ),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": None}),
    "mistral-window": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 7}),
    "gemma2": (
        "Gemma2",
        {
            "num_key_value_heads": 2,
            "head_dim": 16,
            "sliding_window": 9,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "query_pre_attn_scalar": 16,
        },
    ),
    "gemma3": (
        "Gemma3Text",
        {"num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
    ),
    "gpt-neox": ("GPTNeoX", {"rotary_pct": 0.25}),
    "gpt2": ("GPT2", {}),
}


@functools.cache
def _weights(family: str) -> Any:
    name, extra = FAMILIES[family]
    settings = {**COMMON, **extra}
    if name == "GPT2":
        settings = {
            "vocab_size": VOCABULARY,
            "n_embd": 48,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 256,
            "bos_token_id": 1,
            "eos_token_id": 2,
        }
    config = getattr(transformers, f"{name}Config")(**settings)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # large enough for attention to matter and for errors to show
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model.eval().requires_grad_(False).state_dict(), config


def model(family: str, dtype: torch.dtype = torch.float32) -> Any:
    """A model with large random weights, the same at every call; attention is the library's eager one."""
    import copy

    state, config = _weights(family)
    made = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager")
    made.load_state_dict(state)
    return made.to(dtype).eval().requires_grad_(False)


def tree(rng: np.random.Generator, shape: Any, longest: int = 6) -> PromptTree:
    """A random trie: `shape` is a list of shapes of branches; a leaf is []."""
    n = int(rng.integers(1, longest + 1))
    tokens = rng.integers(3, VOCABULARY, size=n)
    reads = [n - 1] if not shape else np.flatnonzero(rng.random(n) < 0.3)
    return PromptTree(tokens, np.asarray(reads), tuple(tree(rng, branch, longest) for branch in shape))
