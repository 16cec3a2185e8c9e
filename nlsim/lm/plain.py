"""Engine `transformers`: one prompt at a time, as the library computes it. The others are measured against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Choices, Generation, Sampling
from nlsim.lm.loading import check_length, context_length, load_model, load_tokenizer
from nlsim.lm.memory import free_memory
from nlsim.lm.prompts import IntArray, PromptTree, flatten
from nlsim.lm.writing import write


class TransformersEngine:
    """Plain transformers."""

    name = "transformers"

    def __init__(self, config: LmConfig, model: Any = None, tokenizer: Any = None) -> None:
        """Load what `config` names, or take a loaded model and tokenizer."""
        self.config = config
        self.model = load_model(config) if model is None else model
        self.tokenizer = load_tokenizer(config) if tokenizer is None and model is None else tokenizer
        self.longest = context_length(self.model)

    @torch.inference_mode()
    def choose(self, trees: Iterable[PromptTree], choices: Sequence[int]) -> Iterator[Choices]:
        """One forward pass per node with reads."""
        for tree in trees:
            rows = [self._read(tokens, reads, choices) for tokens, reads in flatten(tree)]
            empty = np.empty((0, len(choices)), dtype=np.float32)
            yield Choices(np.concatenate(rows) if rows else empty)

    def _read(self, tokens: IntArray, reads: IntArray, choices: Sequence[int]) -> Any:
        check_length(len(tokens), self.longest)
        ids = torch.from_numpy(tokens)[None].to(self.model.device)
        keep = torch.from_numpy(reads).to(self.model.device)
        logits_RV = self.model(input_ids=ids, use_cache=False, logits_to_keep=keep).logits[0].float()
        return logits_RV.log_softmax(-1)[:, list(choices)].cpu().numpy()

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        """One prompt at a time."""
        return write(self.model, self.tokenizer, prompts, sampling, batch_tokens=1)

    def close(self) -> None:
        """Free the model's memory."""
        del self.model
        free_memory()

    def facts(self) -> dict[str, str]:
        """Engine, model, precision and versions."""
        return model_facts(self.name, self.config, self.model)


def model_facts(engine: str, config: LmConfig, model: Any) -> dict[str, str]:
    """What an in-process engine records of itself."""
    import transformers

    return {
        "engine": engine,
        "model": config.model or type(model).__name__,
        "revision": config.revision or "",
        "adapter": config.adapter or "",
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(model.device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
