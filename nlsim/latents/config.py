"""How activations are cached and indexed, and which latents a run is about."""

from typing import Literal

from pydantic import Field, model_validator

from nlsim.base import Section


class CacheConfig(Section):
    """The row-major cache: every token's code, computed once."""

    splits: tuple[Literal["train", "explain", "score", "calibrate", "evaluate"], ...] = Field(
        ("explain", "score", "calibrate", "evaluate"),
        description="Splits whose rows are cached; train is there for training other models and is left out.",
        min_length=1,
    )
    shard_tokens: int = Field(1_000_000, description="Tokens in one shard; a shard is a block of whole rows.", ge=1)
    imported: str | None = Field(
        None,
        description="Folder of a delphi activation cache of the coder's hookpoint, whose activations are taken instead "
        "of running the subject. Goes with a corpus.source of kind tokens with the cache's rows.",
    )
    outlier_norm: float = Field(
        10.0,
        description="A position is an outlier (a massive-norm token) when the norm of what the coder reads or "
        "rebuilds there is more than this many times the median norm of its row, position 0 left out.",
        gt=1,
    )


class IndexConfig(Section):
    """The latent-major index: every latent's activations, in one piece."""

    outliers: Literal["exclude", "keep"] = Field(
        "exclude",
        description="Whether activations at outlier positions are left out of the index, hence of examples and maxima.",
    )
    robust_quantile: float = Field(
        0.999, description="Quantile of a latent's activations that is its robust maximum.", gt=0, le=1
    )
    shard_tokens: int = Field(
        2_000_000,
        description="The index has one shard, a range of latents, per this many cached tokens, so that the size of a "
        "shard does not depend on the length of the run.",
        ge=1,
    )


class LatentsConfig(Section):
    """Which latents are explained, scored and simulated. Thresholds count rows, each of which gives one context."""

    choose: Literal["all", "first", "random", "listed", "heaviest"] = Field(
        "all",
        description="`all`; the `first` ones by number; `random` ones (a larger count only adds to a smaller one); "
        "those `listed` in ids; the `heaviest` by activation summed over the explain split times decoder norm.",
    )
    count: int | None = Field(None, description="How many, at most; needed for first, random and heaviest.", ge=1)
    ids: tuple[int, ...] = Field((), description="The latents of `listed`.")
    min_explain_rows: int = Field(
        4, description="Rows of the explain split in which a latent must be active; listed ones are exempt.", ge=0
    )
    min_score_rows: int = Field(
        0, description="Rows of the score split in which a latent must be active; listed ones are exempt.", ge=0
    )
    max_density: float = Field(
        1.0, description="Largest part of tokens at which a latent may be active; listed ones are exempt.", gt=0, le=1
    )

    part: tuple[float, float] = Field(
        (0.0, 1.0),
        description="Choose from the latents whose number hashes into this part of [0, 1): runs on [0, 0.5] and "
        "[0.5, 1] have none in common, whatever their seeds. Listed ones are exempt.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "LatentsConfig":
        if not 0 <= self.part[0] < self.part[1] <= 1:
            raise ValueError("part must be two ascending numbers between 0 and 1")
        if self.choose in ("first", "random", "heaviest") and self.count is None:
            raise ValueError(f"choose: {self.choose} needs count")
        if self.choose in ("all", "listed") and self.count is not None:
            raise ValueError(f"choose: {self.choose} takes no count")
        if (self.choose == "listed") != bool(self.ids):
            raise ValueError("ids belong to choose: listed, and it needs them")
        if len(set(self.ids)) != len(self.ids) or any(latent < 0 for latent in self.ids):
            raise ValueError("ids must be different latent numbers, none negative")
        return self
