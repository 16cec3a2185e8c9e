"""Stage `tokens`: text to rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlsim.errors import TransientError
from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config


class Tokens(Stage):
    """The corpus as token rows, its documents' splits, and the bytes of every token.

    One shard. Arrays `rows`: see `nlsim.corpus.rows.Rows`. Table `documents`: document, name, split, tokens. Table
    `pieces`: id, bytes, special.
    """

    name = "tokens"
    version = 2
    sections = ("corpus", "subject.model", "subject.revision")

    def shards(self, config: Config) -> int:  # noqa: ARG002
        return 1

    def resources(self, config: Config) -> Resources:
        gigabytes = 2 + _tokens(config) * 4 * 8 / 1e9  # rows are chosen from several times their number
        return Resources(image="model", cpus=2.0, memory_gb=round(gigabytes, 1))

    def estimate(self, config: Config) -> Estimate:
        return Estimate(bytes=_tokens(config) * 4)

    def identity(self, config: Config) -> Mapping[str, str]:
        from nlsim.corpus.documents import source_identity
        from nlsim.subject.locate import tokenizer_identity

        source, tokenizer = source_identity(config.corpus.source), tokenizer_identity(config.subject)
        named = {"source": source, "tokenizer": tokenizer}
        return {f"{part}: {name}": value for part, facts in named.items() for name, value in facts.items()}

    def execute(self, context: StageContext) -> None:
        import pyarrow as pa

        from nlsim.corpus.config import TokensSource
        from nlsim.corpus.pieces import token_pieces
        from nlsim.corpus.reading import Reading
        from nlsim.corpus.rows import build_rows
        from nlsim.corpus.splits import Split
        from nlsim.subject.tokenizer import load_tokenizer

        config = context.config
        tokenizer = load_tokenizer(config.subject)
        if isinstance(config.corpus.source, TokensSource):
            from nlsim.corpus.tokenfiles import token_rows

            rows = token_rows(config.corpus.source, config.corpus, len(tokenizer))
        else:
            reading = Reading(config.corpus.source, context.output)
            try:
                rows = build_rows(
                    reading, tokenizer, config.corpus, lambda done, total: context.progress(done, total, "rows")
                )
            except TransientError:  # a stop was asked for, or a download failed: the next attempt goes on from here
                reading.keep()
                raise
        context.output.arrays(
            "rows",
            {
                "tokens": rows.tokens,
                "length": rows.length,
                "document": rows.document,
                "start": rows.start,
                "split": rows.split,
            },
        )
        context.output.table(
            "documents",
            pa.table(
                {
                    "document": pa.array(range(len(rows.names)), pa.int32()),
                    "name": rows.names,
                    "split": rows.document_split,
                    "tokens": rows.document_tokens,
                }
            ),
        )
        context.output.table("pieces", token_pieces(tokenizer).table())
        context.output.count(
            rows=len(rows.length),
            tokens=int(rows.length.sum()),
            documents=len(rows.names),
            **{f"{split.key}_rows": len(rows.of(split)) for split in Split},
        )


def _tokens(config: Config) -> int:
    return sum(config.corpus.rows.model_dump().values()) * config.corpus.context
