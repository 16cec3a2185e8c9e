"""Stage `cache`: which latents are active at every token. A shard is a block of rows."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from nlsim.errors import DataError
from nlsim.latents.arrays import FloatArray, IntArray, cuts
from nlsim.latents.rows import TokenRows
from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nlsim.coders.coder import Coder
    from nlsim.coders.config import CoderConfig
    from nlsim.config import Config
    from nlsim.latents.encode import Encoded
    from nlsim.store.artifact import ShardWriter
    from nlsim.subject.config import SubjectConfig
    from nlsim.subject.model import Subject

TYPICAL_ACTIVE = 32
"""Latents active per token where a plan has to guess."""


class Cache(Stage):
    """tokens → codes, row-major.

    Objects of a shard: arrays `codes`, see `encode.Encoded`, of all tokens of its rows; arrays `statistics`: active
    [width] codes per latent, decoder_norm [width], outlier (global positions); JSON `coder`: what readers must know of
    the coder. Memory: the models, one batch and one shard of codes, whatever the length of the run.
    """

    name = "cache"
    sections = ("cache", "subject", "coder")
    inputs = ("tokens",)

    def shards(self, config: Config) -> int:
        return -(-cached_tokens_at_most(config) // config.cache.shard_tokens)

    def resources(self, config: Config) -> Resources:
        return Resources(image="model", cpus=2.0, memory_gb=8.0, gpus=int(config.subject.device.startswith("cuda")))

    def estimate(self, config: Config) -> Estimate:
        tokens = cached_tokens_at_most(config)
        return Estimate(tokens=tokens, bytes=tokens * TYPICAL_ACTIVE * 4)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.coders.load import coder_identity
        from nlsim.subject.locate import model_identity

        if config.cache.imported is not None:
            from nlsim.latents.imported import import_identity

            return {**coder_identity(config.coder), **import_identity(config.cache.imported)}
        return {**model_identity(config.subject), **coder_identity(config.coder)}

    def execute(self, context: StageContext) -> None:
        from nlsim.latents.encode import encode_rows, per_token

        rows = TokenRows.of(context.inputs["tokens"])
        cached = rows.of_splits(context.config.cache.splits)
        first, last = cuts(len(cached), context.shards)[context.shard : context.shard + 2]
        mine = cached[first:last]
        position = rows.positions(mine)
        if context.config.cache.imported is not None:
            self._take(context, context.config.cache.imported, rows, mine)
            return
        subject, coder = models(context.config.subject, context.config.coder)
        check_vocabulary(rows, subject)
        encoded = encode_rows(
            subject,
            coder,
            rows.tokens_RT[mine],
            rows.length_R[mine],
            outlier_norm=context.config.cache.outlier_norm,
            batch_tokens=subject.batch_tokens,
            names=mine,
            progress=lambda done: context.progress(done, len(position), "tokens"),
        )
        write_codes(context.output, encoded, position, decoder_norms(coder))
        context.output.json("coder", coder_facts(coder, per_token(coder), context.config))
        context.output.count(rows=len(mine), tokens=len(position))

    def _take(self, context: StageContext, folder: str, rows: TokenRows, mine: IntArray) -> None:
        """The same from activations that delphi cached."""
        from nlsim.coders.load import load_coder
        from nlsim.latents.imported import file_rows, imported_codes

        coder = load_coder(context.config.coder)
        encoded = imported_codes(
            folder,
            file_rows(context.inputs["tokens"])[mine],
            rows.length_R[mine],
            coder.meta.width,
            lambda done: context.progress(done, done, "entries"),
        )
        position = rows.positions(mine)
        write_codes(context.output, encoded, position, decoder_norms(coder))
        context.output.json("coder", coder_facts(coder, None, context.config))
        context.output.count(rows=len(mine), tokens=len(position))


def check_vocabulary(rows: TokenRows, subject: Subject) -> None:
    """Raise DataError for tokens that the model has no embedding for."""
    largest = int(rows.tokens_RT.max(initial=0))
    if largest >= subject.vocabulary:
        raise DataError(
            f"the text has token {largest}, the subject embeds {subject.vocabulary}",
            f"the tokenizer of {subject.config.model} belongs to another model",
        )


def decoder_norms(coder: Coder) -> FloatArray:
    """[width]: length of each latent's decoder vector."""
    norm: FloatArray = coder.decoder_MD.float().norm(dim=1).cpu().numpy()
    return norm


def coder_facts(coder: Coder, codes_per_token: int | None, config: Config) -> dict[str, object]:
    """What readers of the cache must know of the coder; `codes_per_token` is None where tokens differ."""
    facts = coder.meta.model_dump(include={"kind", "hookpoint", "d_in", "d_out", "width", "activation", "skip"})
    return {**facts, "per_token": codes_per_token, "splits": list(config.cache.splits)}


def write_codes(output: ShardWriter, encoded: Encoded, position: IntArray, decoder_norm_M: FloatArray) -> None:
    """Write a shard's codes and their statistics, and count them. `position`: global positions of the tokens."""
    arrays = {"index": encoded.latent, "value": encoded.value}
    output.arrays("codes", arrays if encoded.indptr is None else {**arrays, "indptr": encoded.indptr})
    active = np.bincount(encoded.latent[encoded.value > 0], minlength=len(decoder_norm_M))
    outlier = position[encoded.outlier]
    output.arrays("statistics", {"active": active, "decoder_norm": decoder_norm_M, "outlier": outlier})
    output.count(active=int(active.sum()), outliers=len(outlier), saturated=encoded.saturated)


def cached_tokens_at_most(config: Config) -> int:
    """Tokens that the configuration allows to be cached; short documents make it fewer."""
    budget = config.corpus.rows.model_dump()
    return max(1, sum(budget[split] for split in config.cache.splits) * config.corpus.context)


@lru_cache(maxsize=1)
def models(subject: SubjectConfig, coder: CoderConfig) -> tuple[Subject, Coder]:
    """The subject and the coder, loaded once for all shards that one process computes."""
    from nlsim.coders.load import load_coder
    from nlsim.subject.model import Subject

    loaded = Subject.load(subject)
    return loaded, load_coder(coder, str(loaded.device))
