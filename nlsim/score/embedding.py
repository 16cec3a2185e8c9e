"""The embedding scorer: is an activating context nearer to the explanation than a silent one? No generation, no
prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nlsim.errors import DataError, UsageError
from nlsim.foreign import local_path
from nlsim.subject.locate import Location

INSTRUCTION = "Represent the description for finding texts in which such tokens occur: "
BATCH = 32


class EmbeddingScorer:
    """Cosine similarity under a local embedding model: mean of its last hidden states over a text's tokens."""

    def __init__(self, folder: str | None) -> None:
        if not folder:
            raise UsageError("the embedding scorer needs a model", "set score.embedding_model to a local folder")
        folder = str(local_path(folder))
        if not (Path(folder) / "config.json").is_file():
            raise DataError(f"no embedding model in {folder}", "give the folder that save_pretrained wrote")
        from nlsim.subject.pretrained import load_pretrained
        from nlsim.subject.tokenizer import read_tokenizer

        location = Location(folder, None, local=True)
        self._tokenizer = read_tokenizer(location)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        model = load_pretrained("embedding model", location, auto="AutoModel", unused="pooler")  # nor is it used here
        self._model = model.eval()

    def similarity(self, explanation: str, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """[texts] cosine of the explanation with each text."""
        unit_ND = self.embed([INSTRUCTION + explanation, *texts])
        found: npt.NDArray[np.float64] = unit_ND[1:] @ unit_ND[0]
        return found

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """[texts, d] vectors of length 1."""
        import torch

        parts = []
        for start in range(0, len(texts), BATCH):
            batch = self._tokenizer(
                list(texts[start : start + BATCH]), return_tensors="pt", padding=True, truncation=True
            )
            batch.pop("token_type_ids", None)
            with torch.inference_mode():
                hidden_NTD = self._model(**batch).last_hidden_state.float()
            mask_NT1 = batch["attention_mask"][..., None].float()
            mean_ND = (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
            parts.append(torch.nn.functional.normalize(mean_ND, dim=1).numpy())
        return np.concatenate(parts).astype(np.float64)
