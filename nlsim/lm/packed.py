"""Engine `packed`: every shared prefix once, no padding, the last layer and the head only where they are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nlsim import log
from nlsim.errors import is_out_of_memory
from nlsim.lm.backend import Backbone
from nlsim.lm.config import LmConfig
from nlsim.lm.engine import Choices, Generation, Sampling
from nlsim.lm.head import Head
from nlsim.lm.llama import LlamaForward, fits
from nlsim.lm.loading import check_length, context_length, load_model, load_tokenizer
from nlsim.lm.memory import free_memory, no_room
from nlsim.lm.packing import Piece, batches, halves, plan, stream
from nlsim.lm.plain import model_facts
from nlsim.lm.prompts import IntArray, PromptTree
from nlsim.lm.trie import Path, TriePass
from nlsim.lm.writing import write

BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Rows of a pass: on a CPU activations should stay in the cache, on a GPU matrix products should be large."""

WRITE_TOKENS = {"cpu": 8192, "cuda": 131072}
"""Prompts × (prompt + answer) of a batch that is written: every step reads all weights, whatever the batch."""


class PackedEngine:
    """Our engine."""

    name = "packed"

    def __init__(self, config: LmConfig, model: Any = None, tokenizer: Any = None) -> None:
        """Load what `config` names, or take a loaded model (whose attention backend is switched) and tokenizer."""
        self.config = config
        self.model = load_model(config) if model is None else model
        self.tokenizer = load_tokenizer(config) if tokenizer is None and model is None else tokenizer
        self.longest = context_length(self.model)
        on_gpu = self.model.device.type == "cuda"
        fused = not config.compile and fits(self.model)
        compiled = on_gpu if config.compile is None else config.compile
        self.backbone = LlamaForward(self.model) if fused else Backbone(self.model, compiled)
        self.head = Head(self.model)
        kind = "cuda" if on_gpu else "cpu"
        self.batch_tokens = config.batch_tokens or BATCH_TOKENS[kind]
        self.write_tokens = config.batch_tokens or WRITE_TOKENS[kind]

    @torch.inference_mode()
    def choose(self, trees: Iterable[PromptTree], choices: Sequence[int]) -> Iterator[Choices]:
        """Tries are cut into micro-batches that run on from one trie into the next."""
        wanted = torch.tensor(list(choices), device=self.head.device)
        path = Path()
        due: deque[int] = deque()  # reads of each trie not yet answered
        answers = np.empty((0, len(choices)), dtype=np.float32)
        for batch in batches(self._pieces(trees, due), lambda: self.batch_tokens):
            answers = np.concatenate([answers, *self._run(batch, path, wanted)])
            start = 0
            while due and len(answers) - start >= due[0]:
                stop = start + due.popleft()
                yield Choices(answers[start:stop])
                start = stop
            answers = answers[start:]
        yield from (Choices(answers) for _ in due)  # tries without reads at the very end

    def _pieces(self, trees: Iterable[PromptTree], due: deque[int]) -> Iterator[Piece]:
        """The pieces of all tries; adds to `due` how many reads each trie has."""
        for made in stream(trees, self.batch_tokens):
            due.append(sum(len(piece.reads) for piece in made))
            for piece in made:
                check_length(piece.depth + len(piece.tokens), self.longest)
                yield piece

    def _run(self, batch: list[Piece], path: Path, wanted: Tensor) -> list[Any]:
        """Answers of a micro-batch's reads. When memory runs out, try its halves, and make later ones smaller."""
        try:
            return [self._forward(batch, path, wanted)]
        except (RuntimeError, MemoryError) as error:
            path.drop()
            rows = sum(len(piece.tokens) for piece in batch)
            if not is_out_of_memory(error):
                raise
            if rows == 1:
                raise no_room() from error
        free_memory()
        self.batch_tokens = max(1, min(self.batch_tokens, rows) // 2)
        log.event("out of memory: smaller micro-batches from now on", tokens=self.batch_tokens)
        first, second = halves(batch)
        answers = [*self._run(first, path, wanted), *self._run(second, path, wanted)]
        if len(batch) == 1:
            path.join(batch[0].level)
        return answers

    def _forward(self, batch: list[Piece], path: Path, wanted: Tensor) -> Any:
        layout = plan(batch, path.ends)
        hidden_RD = self.backbone.hidden(TriePass(layout, path))
        answers = self.head.choices(hidden_RD.to(self.head.device), wanted).cpu().numpy()
        path.commit(layout)  # nothing can fail after this, so a pass is repeated with the path that it began with
        return answers

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        """Prompts of similar length in one batch."""
        return write(self.model, self.tokenizer, prompts, sampling, self.write_tokens)

    def close(self) -> None:
        """Free the model's memory."""
        del self.model, self.backbone, self.head
        free_memory()

    def facts(self) -> dict[str, str]:
        """Engine, model, precision, micro-batch and versions."""
        return {**model_facts(self.name, self.config, self.model), "batch_tokens": str(self.batch_tokens)}
