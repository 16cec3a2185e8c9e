"""What text a run reads and how it is cut into rows."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from nlsim.base import Section


class BuiltinSource(Section):
    """The Python standard library's documentation, gathered from the running interpreter. Needs no network."""

    kind: Literal["builtin"] = Field("builtin", description="Which kind of source this is.")


class FilesSource(Section):
    """Local text, JSON-lines or Parquet files."""

    kind: Literal["files"] = Field("files", description="Which kind of source this is.")
    paths: tuple[str, ...] = Field(min_length=1, description="Files or glob patterns (`data/**/*.jsonl`).")
    format: Literal["auto", "txt", "jsonl", "parquet"] = Field("auto", description="`auto`: by the file's suffix.")
    column: str = Field(
        "text", description="Field of a JSON line, or column of a Parquet file, that holds the text or a conversation."
    )
    separator: str | None = Field(
        None,
        description="Text files: what separates documents, e.g. a blank line. Default: a file is one.",
    )


class HuggingFaceSource(Section):
    """A data set read with the `datasets` library: from the hub, a local folder, or a builder over local files."""

    kind: Literal["huggingface"] = Field("huggingface", description="Which kind of source this is.")
    path: str = Field(description="Hub name, a folder, or a builder such as `json` together with `data_files`.")
    name: str | None = Field(None, description="Configuration of the data set.")
    split: str = Field("train", description="Split, slices allowed when not streaming (`train[:1%]`).")
    column: str = Field("text", description="Column that holds the text, or a conversation (a list of turns).")
    revision: str | None = Field(None, description="Commit, tag or branch; give a commit to make the run repeatable.")
    data_files: tuple[str, ...] = Field((), description="Files handed to the builder.")
    streaming: bool = Field(True, description="Read as it downloads, instead of downloading first.")


class TokensSource(Section):
    """Rows of tokens that were made elsewhere, one row after another."""

    kind: Literal["tokens"] = Field("tokens", description="Which kind of source this is.")
    path: str = Field(
        description="A .npy file of rows × positions, a .parquet or .jsonl file with a list per row, or a delphi cache "
        "(its folder). The first token of a row stands where BOS stands in other corpora."
    )
    column: str = Field("input_ids", description="Field of a JSON line, or column of a Parquet file, with the list.")


def _source_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Source = Annotated[
    Annotated[BuiltinSource | FilesSource | HuggingFaceSource | TokensSource, Field(discriminator="kind")],
    BeforeValidator(_source_kind),
]


class RowBudgets(Section):
    """The most rows kept in each split. Little text gives fewer; a split with a budget and no row is an error."""

    train: int = Field(8192, ge=0, description="For training coders and other models; never read by a run's stages.")
    explain: int = Field(1024, ge=0, description="Where explanations and token statistics come from.")
    score: int = Field(512, ge=0, description="Where detection and fuzzing examples come from.")
    calibrate: int = Field(256, ge=0, description="Where calibration is fitted.")
    evaluate: int = Field(64, ge=0, description="Where losses are measured.")


class SplitFractions(Section):
    """The share of documents that each split receives. Only the ratios matter."""

    train: float = Field(0.6, ge=0, description="Share of the train split.")
    explain: float = Field(0.15, ge=0, description="Share of the explain split.")
    score: float = Field(0.1, ge=0, description="Share of the score split.")
    calibrate: float = Field(0.05, ge=0, description="Share of the calibrate split.")
    evaluate: float = Field(0.1, ge=0, description="Share of the evaluate split.")


class CorpusConfig(Section):
    """Text to rows of tokens: BOS and consecutive tokens of one document, documents split into five disjoint parts."""

    source: Source = Field(
        default_factory=BuiltinSource, description="Where the text comes from; a bare word is its kind."
    )
    context: int = Field(64, ge=4, le=1 << 16, description="Tokens in a row, BOS included.")
    rows: RowBudgets = Field(default_factory=RowBudgets, description="The most rows kept in each split.")
    fractions: SplitFractions = Field(default_factory=SplitFractions, description="How documents are split.")
    seed: int = Field(0, ge=0, description="Decides which document goes to which split, and the order of rows.")
    min_tokens: int = Field(16, ge=2, description="A row with fewer text tokens (a document's end) is dropped.")
    max_documents: int | None = Field(None, ge=1, description="Read at most this many documents.")

    @model_validator(mode="after")
    def _consistent(self) -> "CorpusConfig":
        if self.min_tokens > self.context - 1:
            raise ValueError(f"min_tokens {self.min_tokens} is more than the {self.context - 1} text tokens of a row")
        for split, budget in self.rows.model_dump().items():
            if budget and not getattr(self.fractions, split):
                raise ValueError(f"rows.{split} is {budget} but fractions.{split} is 0: the split gets no document")
        if not any(self.rows.model_dump().values()):
            raise ValueError("every split's row budget is 0")
        return self
