"""What the experiment `blog` measures."""

from typing import Literal

from pydantic import Field, model_validator

from nlsim.base import Section, speed_only

Published = Literal["quantiles", "top", "finetuned", "fuzzing", "detection", "large"]
"""The published methods: few-shot Llama-3.1-8B with explanations of two kinds, finetuned, with either score shown, and
Llama-3.1-70B."""


class BlogConfig(Section):
    """How many true latents are needed, which ones are found from their explanations, and what finding them gains."""

    counts: tuple[int, ...] = Field(
        (1, 2, 3, 5, 7, 10, 14, 20, 30, 40, 55, 70, 100),
        description="Numbers of true active latents kept at every token: the strongest ones, and random ones.",
    )
    random_draws: int = Field(2, description="Random choices of latents per number.", ge=1)
    rows: int = Field(100, description="Evaluation rows on which latents are kept or planted.", ge=1)
    window: int | None = Field(64, description="Tokens of each of these rows; none: the whole row.", ge=2)
    recalls: tuple[float, ...] = Field(
        (0.2, 0.4, 0.6, 0.8, 1.0), description="Shares of the active latents that a planted simulator finds."
    )
    false_rates: tuple[float, ...] = Field(
        (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        description="Shares of the inactive latents that a planted simulator takes for active.",
    )
    planted_rows: int = Field(32, description="The first rows, on which the planted simulators are tried.", ge=1)
    pool: int = Field(
        1000, description="Inactive latents asked about per token in the published evaluation, for comparison.", ge=1
    )
    top: int = Field(49, description="k of precision at k.", ge=1)
    thresholds: tuple[float, ...] = Field(
        (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999),
        description="Probabilities from which a latent is called active.",
    )
    tail: float = Field(
        0.01, description="Share of the inactive pairs, the likeliest ones, to which the tail is fitted.", gt=0, lt=1
    )
    aligned_reads: int = Field(200, description="Reads at which decoder directions are aligned.", ge=1)
    grid: int = Field(50, description="Points of the grids to which activation values are rounded.", ge=2)
    bins: int = Field(10, description="Bins of scores and of activation ranks.", ge=2)
    help_positions: Literal["last", "all"] = Field(
        "last", description="Patch what helps at the `last` read of each window, or at `all` of them at once."
    )
    help_earlier: Literal["coder", "clean"] = Field(
        "coder", description="What earlier positions hold under `last`: the coder's output, as published, or nothing."
    )
    like: dict[str, Published] = Field(
        default_factory=dict, description="Kinds of explanations → the published methods that they are compared with."
    )
    batch_rows: int = speed_only(8, "Rows in one forward pass.", ge=1)
    shard_rows: int = Field(64, description="Evaluation rows of one shard of the stages that run the subject.", ge=1)
    draws: int = Field(2000, description="Bootstrap draws over documents.", ge=100)
    level: float = Field(0.95, description="Level of the intervals.", gt=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "BlogConfig":
        if min(self.counts, default=1) < 1:
            raise ValueError("counts must be 1 or more: 0 latents is the condition zero")
        if any(not 0 <= rate <= 1 for rate in (*self.recalls, *self.false_rates)):
            raise ValueError("recalls and false_rates are shares between 0 and 1")
        if any(not 0 < threshold < 1 for threshold in self.thresholds):
            raise ValueError("thresholds are probabilities between 0 and 1")
        return self
