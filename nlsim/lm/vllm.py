"""Engine `vllm`: vLLM's offline engine. It keeps shared prefixes in whole blocks and runs quantized checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nlsim.errors import UsageError
from nlsim.lm.adapter import adapter_folder
from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Choices, Generation, Sampling
from nlsim.lm.loading import check_length, device_of, dtype_of, load_tokenizer, place_of
from nlsim.lm.prompts import IntArray, PromptTree, flatten

REQUESTS = 8192
"""Requests handed to vLLM at once: enough to keep it busy, few enough for memory not to grow."""

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM knows."""

MOST_CHOICES = 128
"""vLLM's limit on exact log-probabilities per position."""


def adapter_rank(adapter: str | None) -> int:
    """The rank to make room for: the least that vLLM knows and that holds the adapter's own."""
    card = Path(adapter_folder(adapter)) / "adapter_config.json" if adapter else None
    rank = int(json.loads(card.read_text(encoding="utf-8")).get("r", 0)) if card and card.is_file() else RANKS[1]
    return next((size for size in RANKS if size >= rank), RANKS[-1])


class VllmEngine:
    """vLLM in this process (its engine core runs in one of its own)."""

    name = "vllm"

    def __init__(self, config: LmConfig) -> None:
        """Load what `config` names. Raises UsageError when vLLM is not installed or refuses the model."""
        try:
            import vllm
        except ImportError as error:
            raise UsageError("engine vllm needs vllm", "install nlsim[vllm] into an environment of its own") from error
        self.config = config
        self.version: str = vllm.__version__
        location = place_of(config, config.model)
        device = device_of(config)
        own = config.dtype == "auto" and (device.type == "cuda" or config.vllm.quantization is not None)
        try:
            self.llm: Any = vllm.LLM(
                model=location.path,
                revision=location.revision,
                tokenizer=place_of(config, config.tokenizer or config.model).path,
                dtype="auto" if own else str(dtype_of(config, device)).removeprefix("torch."),
                tensor_parallel_size=config.vllm.tensor_parallel,
                quantization=config.vllm.quantization,
                gpu_memory_utilization=config.vllm.memory,
                max_model_len=config.vllm.max_model_len,
                enable_prefix_caching=True,
                enable_lora=config.adapter is not None,
                max_lora_rank=adapter_rank(config.adapter),
                max_logprobs=MOST_CHOICES,
                disable_log_stats=True,
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise UsageError(
                f"vLLM cannot run {config.model!r} ({str(error).splitlines()[0][:200]})", "check lm.vllm"
            ) from error
        self.tokenizer = load_tokenizer(config)
        self.longest = int(self.llm.model_config.max_model_len)
        self._lora: Any = None
        if config.adapter:
            from vllm.lora.request import LoRARequest

            self._lora = LoRARequest("adapter", 1, adapter_folder(config.adapter))

    def choose(self, trees: Iterable[PromptTree], choices: Sequence[int]) -> Iterator[Choices]:
        """One request per read, tries one after another, so that what they share is still in vLLM's cache."""
        from vllm import SamplingParams

        if len(choices) > MOST_CHOICES:
            raise UsageError(f"vLLM reads at most {MOST_CHOICES} choices", "use lm.engine packed")
        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=list(choices))
        waiting: list[tuple[int, list[IntArray]]] = []
        for tree in trees:
            prompts = [tokens[: read + 1] for tokens, reads in flatten(tree) for read in reads.tolist()]
            waiting.append((len(prompts), prompts))
            if sum(size for size, _ in waiting) >= REQUESTS:
                yield from self._answer(waiting, params, choices)
                waiting = []
        yield from self._answer(waiting, params, choices)

    def _answer(
        self, waiting: list[tuple[int, list[IntArray]]], params: Any, choices: Sequence[int]
    ) -> Iterator[Choices]:
        outputs = iter(self._run([prompt for _, prompts in waiting for prompt in prompts], params, 1))
        for size, _ in waiting:
            tables = [next(outputs).outputs[0].logprobs[0] for _ in range(size)]
            rows = [[table[choice].logprob for choice in choices] for table in tables]
            yield Choices(np.asarray(rows, dtype=np.float32).reshape(size, len(choices)))

    def _run(self, prompts: Sequence[IntArray], params: Any, max_tokens: int) -> list[Any]:
        for prompt in prompts:
            check_length(len(prompt) + max_tokens, self.longest)
        requests = [{"prompt_token_ids": prompt.tolist()} for prompt in prompts]
        outputs: list[Any] = (
            self.llm.generate(requests, params, use_tqdm=False, lora_request=self._lora) if requests else []
        )
        return outputs

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        """All prompts at once; vLLM batches them continuously."""
        from vllm import SamplingParams

        params = [
            SamplingParams(
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                seed=sampling.seed * 1_000_003 + i,
                stop=list(sampling.stop) or None,
            )
            for i in range(len(prompts))
        ]
        outputs = [output.outputs[0] for output in self._run(prompts, params, sampling.max_tokens)]
        return [Generation(out.text, len(out.token_ids), out.finish_reason != "length") for out in outputs]

    def close(self) -> None:
        """End vLLM's engine core, which gives its memory back."""
        self.llm.llm_engine.engine_core.shutdown()

    def facts(self) -> dict[str, str]:
        """Engine, model, precision and version."""
        return {
            "engine": self.name,
            "model": self.config.model,
            "revision": self.config.revision or "",
            "adapter": self.config.adapter or "",
            "dtype": str(self.llm.model_config.dtype).removeprefix("torch."),
            "vllm": self.version,
        }
