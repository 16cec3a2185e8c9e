"""Writing text with a transformers model: batches of prompts, one key-value cache each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from nlsim import log
from nlsim.errors import is_out_of_memory
from nlsim.lm.engine import Generation, Sampling
from nlsim.lm.loading import check_length, context_length
from nlsim.lm.memory import free_memory, no_room
from nlsim.lm.prompts import IntArray

SEEN = 6
"""Tokens of the prompt that an answer is decoded with."""


class SeededNoise(LogitsProcessor):
    """Sampling as an argmax: Gumbel noise, scaled by the temperature, from one generator per prompt.

    So a prompt's text depends on the seed and on itself, not on what it is batched with.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002 - the library's signature
        """`scores` [B, V] with noise added."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=generator) for generator in self.generators])
        noise = -torch.log(-torch.log(uniform.clamp_(1e-20, 1 - 1e-7)))
        return scores.float() + self.temperature * noise.to(scores.device)


@torch.inference_mode()
def write(
    model: Any, tokenizer: Any, prompts: Sequence[IntArray], sampling: Sampling, batch_tokens: int
) -> list[Generation]:
    """Continue every prompt, in order; `batch_tokens` bounds prompts × (prompt + answer) of one batch.

    A batch for which memory does not suffice is written in halves, and later ones are as small.
    """
    max_tokens, temperature, seed, stop = sampling
    for prompt in prompts:
        check_length(len(prompt) + max_tokens, context_length(model))
    end = model.generation_config.eos_token_id
    ends = end if isinstance(end, list) else [tokenizer.eos_token_id if end is None else end]
    ends = [token for token in ends if token is not None]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0]

    def one(batch: list[int]) -> list[Generation]:
        width = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, width - len(prompts[i]) :] = torch.from_numpy(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        noise = [SeededNoise(temperature, [seed * 1_000_003 + i for i in batch])] if temperature > 0 else []
        out = model.generate(
            ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=GenerationConfig(
                max_new_tokens=max_tokens, do_sample=False, pad_token_id=pad, eos_token_id=ends or None,
                stop_strings=list(stop) or None,
            ),
            logits_processor=LogitsProcessorList(noise),
            tokenizer=tokenizer if stop else None,
        )  # fmt: skip
        written = out[:, width:].tolist()
        return [_read(prompts[i], row, tokenizer, ends, stop) for i, row in zip(batch, written, strict=True)]

    results: dict[int, Generation] = {}
    waiting = list(batches([len(prompt) for prompt in prompts], max_tokens, batch_tokens))[::-1]
    most = len(prompts)
    while waiting:
        batch = waiting.pop()
        if len(batch) > most:
            waiting += [batch[most:], batch[:most]]
            continue
        try:
            results.update(zip(batch, one(batch), strict=True))
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise no_room() from error
        most = len(batch) // 2
        waiting.append(batch)
        log.event("out of memory: fewer prompts at once from now on", prompts=most)
        free_memory()
    return [results[i] for i in range(len(prompts))]


def batches(lengths: Sequence[int], max_tokens: int, batch_tokens: int) -> Iterator[list[int]]:
    """Indices of prompts of similar length together, longest first, so that memory runs out at once or not at all."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * (lengths[batch[0]] + max_tokens) > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _read(prompt: IntArray, ids: list[int], tokenizer: Any, ends: Sequence[int], stop: Sequence[str]) -> Generation:
    """The text of an answer, cut before the token or the string that ended it."""
    ended = next((place for place, token in enumerate(ids) if token in ends), None)
    kept = ids if ended is None else ids[:ended]
    before = prompt[-SEEN:].tolist()  # some tokenizers drop the space of a first word
    begun, whole = (tokenizer.decode(tokens, skip_special_tokens=True) for tokens in (before, before + kept))
    text = whole[len(begun) :] if whole.startswith(begun) else tokenizer.decode(kept, skip_special_tokens=True)
    cuts = [at for at in (text.find(string) for string in stop) if at >= 0]
    if cuts:
        text = text[: min(cuts)]
    return Generation(text, len(kept) + (ended is not None), ended is not None or bool(cuts))
