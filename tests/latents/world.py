"""Runs whose activations are known, as real artifacts in a directory or bucket: the truth that readers give back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nlsim.config import Config, parse_config
from nlsim.corpus.splits import Split
from nlsim.latents.arrays import cuts
from nlsim.latents.cache_stage import write_codes
from nlsim.latents.contexts import Contexts
from nlsim.latents.encode import Encoded
from nlsim.latents.index import LatentIndex
from nlsim.latents.index_stage import Index
from nlsim.latents.rows import TokenRows
from nlsim.pipeline.stage import StageContext
from nlsim.store.artifact import Artifact
from nlsim.store.objects import open_objects


class World:
    """`z_RTM` [rows, context, width] float16 activations of the tokens, cached and indexed by the real code."""

    def __init__(
        self,
        url: str | Path,
        tokens_RT: np.ndarray,
        length_R: np.ndarray,
        split_R: np.ndarray,
        z_RTM: np.ndarray,
        *,
        document_R: np.ndarray | None = None,
        cache_shards: int = 1,
        index_shards: int = 1,
        ragged: bool = False,
        outliers: tuple[int, ...] = (),
        splits: tuple[str, ...] = tuple(split.key for split in Split),
        settings: dict[str, Any] | None = None,
    ) -> None:
        z = z_RTM.copy()
        z[:, 0] = 0
        z[np.arange(z.shape[1])[None, :] >= length_R[:, None]] = 0
        self.z_RTM = z
        self.config: Config = parse_config(
            {"name": "world", "subject": {}, "coder": {}, "cache": {"splits": list(splits)}, "index": settings or {}}
        )
        store = open_objects(url)
        self.tokens = Artifact(store, "tokens", "0" * 16, 1)
        self.cache = Artifact(store, "cache", "1" * 16, cache_shards)
        self.index = Artifact(store, "index", "2" * 16, index_shards)
        writer = self.tokens.begin(0)
        document = np.arange(len(length_R)) if document_R is None else document_R
        arrays = {
            "tokens": tokens_RT.astype(np.int32),
            "length": length_R.astype(np.int32),
            "document": document.astype(np.int32),
            "start": np.zeros(len(length_R), np.int32),
            "split": split_R.astype(np.uint8),
        }
        writer.arrays("rows", arrays)
        writer.commit()
        rows = TokenRows.of(self.tokens)
        cached = rows.of_splits(splits)
        bounds = cuts(len(cached), cache_shards)
        for shard in range(cache_shards):
            self._write_codes(rows, cached[bounds[shard] : bounds[shard + 1]], shard, ragged, np.array(outliers, int))
        self.run_index()

    def _write_codes(self, rows: TokenRows, mine: np.ndarray, shard: int, ragged: bool, outliers: np.ndarray) -> None:
        position = rows.positions(mine)
        z_NM = self.z_RTM.reshape(-1, self.z_RTM.shape[2])[position]
        most = int((self.z_RTM > 0).sum(2).max())
        order = np.argsort(-z_NM.astype(np.float32), axis=1, kind="stable")[:, :most]
        value = np.take_along_axis(z_NM, order, axis=1)
        latent = np.where(value > 0, order, 0).astype(np.uint16)
        outlier = np.flatnonzero(np.isin(position, outliers))
        if ragged:
            indptr = np.concatenate([[0], np.cumsum((value > 0).sum(1))])
            encoded = Encoded(latent[value > 0], value[value > 0], indptr, outlier, 0)
        else:
            encoded = Encoded(latent, value, None, outlier, 0)
        writer = self.cache.begin(shard)
        write_codes(writer, encoded, position, 1 + np.arange(self.z_RTM.shape[2], dtype=np.float32))
        facts = {
            "width": self.z_RTM.shape[2],
            "per_token": None if ragged else most,
            "splits": self.config.cache.splits,
        }
        writer.json("coder", facts)
        writer.commit()

    def run_index(self) -> None:
        for shard in range(self.index.shards):
            writer = self.index.begin(shard)
            inputs = {"tokens": self.tokens, "cache": self.cache}
            context = StageContext(self.config, shard, self.index.shards, inputs, writer, lambda *_: None)
            Index().execute(context)
            writer.commit()

    def open(self) -> LatentIndex:
        return LatentIndex(self.tokens, self.cache, self.index)


def random_world(
    url: str | Path, seed: int = 0, rows: int = 60, context: int = 24, width: int = 12, **options: Any
) -> World:
    """A world with all splits, short rows among long ones, and latents from silent to almost always active."""
    rng = np.random.default_rng(seed)
    length = np.where(rng.random(rows) < 0.3, rng.integers(4, context + 1, rows), context)
    split = np.sort(rng.integers(0, len(Split), rows))
    tokens = rng.integers(1, 20, (rows, context))
    density = np.linspace(0, 0.9, width) ** 2
    z = np.where(rng.random((rows, context, width)) < density, rng.gamma(2.0, 1.0, (rows, context, width)), 0)
    return World(url, tokens, length, split, z.astype(np.float16), **options)


def world_of(path: Path, z_RTM: np.ndarray, split: Split = Split.EXPLAIN, **options: object) -> LatentIndex:
    """Full rows of one split, token numbers 1, 2, … 9, 1, … along each row."""
    rows, context, _ = z_RTM.shape
    tokens = np.tile(np.arange(context) % 9 + 1, (rows, 1))
    lengths, splits = np.full(rows, context), np.full(rows, int(split))
    return World(path, tokens, lengths, splits, z_RTM.astype(np.float16), **options).open()  # type: ignore[arg-type]


def check(contexts: Contexts, index: LatentIndex, split: Split) -> None:
    """Windows lie in rows of the split, apart from each other, and show the right tokens and activations."""
    first, last = index.rows.block(split)
    assert ((contexts.row_N >= first) & (contexts.row_N < last)).all()
    assert len(np.unique(contexts.row_N)) == len(contexts.row_N)
    assert (contexts.start_N >= 1).all()
    assert (contexts.start_N + contexts.length_N <= index.rows.length_R[contexts.row_N]).all()
    assert ((contexts.target_N >= 0) & (contexts.target_N < contexts.length_N)).all()
    truth = index.codes_of_rows(np.arange(index.rows.count)).dense(np.array([contexts.latent]), index.width)[:, 0]
    dense = np.zeros(index.rows.tokens_RT.size, np.float32)
    dense[index.rows.positions(np.arange(index.rows.count))] = truth
    for n, (row, start, size) in enumerate(zip(contexts.row_N, contexts.start_N, contexts.length_N, strict=True)):
        begin = row * index.context + start
        np.testing.assert_array_equal(contexts.tokens_NL[n, :size], index.rows.tokens_RT[row, start : start + size])
        np.testing.assert_array_equal(contexts.activation_NL[n, :size], dense[begin : begin + size])
        assert not contexts.tokens_NL[n, size:].any()
        assert not contexts.activation_NL[n, size:].any()
