"""A run's activations as a delphi cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from nlsim.corpus.delphi import boundaries, location_type
from nlsim.exchange.explanations import module_of

if TYPE_CHECKING:
    from nlsim.api.run import RunView

LEAST = 1e-5
"""delphi keeps activations larger than this."""


def export_cache(run: RunView, folder: Path, files: int = 5) -> Path:
    """Write the cached activations of a run to `folder`/HOOKPOINT as delphi does; returns that folder.

    Its rows are the run's cached rows in their order. Rows that are shorter than the context end in zeros; `lengths`
    says where. Memory: the activations of one file, some 20 bytes each.
    """
    index = run.latents.index
    reader, rows = index.codes, index.rows
    target = folder / module_of(run)
    target.mkdir(parents=True, exist_ok=True)
    place = np.full(rows.count, -1, np.int64)
    place[reader.rows] = np.arange(len(reader.rows))
    tokens = rows.tokens_RT[reader.rows].astype(np.int64)
    lengths = rows.length_R[reader.rows].astype(np.int64)
    for start, end in boundaries(reader.width, files):
        found = []
        for block in reader.blocks(np.zeros(0, np.int64)):
            token = np.broadcast_to(block.token, block.latent.shape)
            mine = (block.latent >= start) & (block.latent <= end) & (block.value > LEAST)
            found.append((token[mine], block.latent[mine].astype(np.int64) - start, block.value[mine]))
        token, latent, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.lexsort((latent, token))
        row, position = place[token[order] // rows.context], token[order] % rows.context
        kind = location_type(len(tokens), end - start + 1)
        locations = np.ascontiguousarray(np.stack([row, position, latent[order]], axis=1).astype(kind))
        arrays = {"locations": locations, "activations": np.ascontiguousarray(value[order], np.float16)}
        save_file({**arrays, "tokens": tokens, "lengths": lengths}, target / f"{start}_{end}.safetensors")
    settings = _settings(run, files, tokens.shape)
    (target / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return target


def _settings(run: RunView, files: int, shape: tuple[int, ...]) -> dict[str, object]:
    """What delphi's readers look for, under the names of its versions."""
    source = run.config.corpus.source.model_dump()
    return {
        "dataset_repo": source.get("path", source["kind"]),
        "dataset_split": source.get("split", ""),
        "dataset_name": source.get("name") or "",
        "dataset_column": source.get("column", ""),
        "dataset_row": source.get("column", ""),
        "batch_size": 32,
        "ctx_len": shape[1],
        "cache_ctx_len": shape[1],
        "n_tokens": int(np.prod(shape)),
        "n_splits": files,
        "model_name": run.config.subject.model,
    }
