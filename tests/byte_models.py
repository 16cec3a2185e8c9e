"""A tokenizer with one token per byte, so that tests see prompts as they are written, and small models that read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(chat: bool = False, merges: Sequence[tuple[str, str]] = ()) -> PreTrainedTokenizerFast:
    """One token per byte, apart from `merges`; with a chat template or without."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>", "<s>")])
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<|im_end|>")
    made.chat_template = CHATML if chat else None
    return made


def write_model(folder: Path, tokenizer: Any, says: str) -> Path:
    """A Llama of random weights that reads up to 8,192 tokens and then writes the one token `says`, over and over."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=8192,
            eos_token_id=None,
            tie_word_embeddings=False,
            **shape,
        )
    )
    (token,) = tokenizer.encode(says, add_special_tokens=False)
    with torch.no_grad():
        model.model.norm.weight.zero_()  # so that every hidden state is 0, and all logits are equal but this one
        model.lm_head.weight.zero_()
        model.model.norm.weight[0] = 1.0
        model.model.embed_tokens.weight[:, 0] = 100.0
        model.lm_head.weight[token, 0] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
