"""Which patched runs are made."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from nlsim.base import Section, speed_only

Values = Literal[
    "clean", "coder", "zero", "mean", "random", "token_mean", "shuffled", "shuffled_refitted", "linear", "quantile",
    "posterior",
]  # fmt: skip
Clip = Literal["none", "value", "norm"]
Position = Literal["last", "all"]


class ReconstructConfig(Section):
    """Losses of the subject with the hooked module's output rebuilt from true, simulated or baseline activations."""

    values: tuple[Values, ...] = Field(
        get_args(Values),
        description="What stands in for the activations of the latents under study, on every evaluation row.",
    )
    positions: tuple[Position, ...] = Field(
        ("all",),
        description="Patch `all` positions of a window at once, or its `last` one alone; both can be asked for.",
    )
    clips: tuple[Clip, ...] = Field(
        ("none", "value", "norm"),
        description="Keep only the top k of the resulting code: `none` keeps all, `value` ranks by value, `norm` by "
        "value times decoder norm. Applies to linear, quantile, posterior and the shuffled ones at fraction 1.",
    )
    clip_k: int | None = Field(None, description="k of the clipping; none: the coder's own k, or its mean count.", ge=1)
    fractions: tuple[float, ...] = Field(
        (0.001, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
        description="Parts of the latents under study that are replaced, best-scored first and at random; the others "
        "keep the truth.",
    )
    curve_values: tuple[Values, ...] = Field(("linear", "posterior"), description="Values used along the fractions.")
    curve_clip: Clip = Field("none", description="Clipping along the fractions.")
    curve_rows: int = Field(16, description="Evaluation rows used along the fractions, the first so many.", ge=0)
    random_draws: int = Field(5, description="Random selections of latents per fraction.", ge=0)
    unexplained: Literal["mean", "zero", "true"] = Field(
        "mean",
        description="What a latent without explanation or prediction gets in simulated conditions. `true` leaks the "
        "truth and is for comparison with older numbers only.",
    )
    shard_rows: int = Field(64, description="Evaluation rows of one shard.", ge=1)
    batch_rows: int = speed_only(8, "Rows in one forward pass.", ge=1)
    draws: int = Field(2000, description="Bootstrap draws over documents.", ge=100)
    level: float = Field(0.95, description="Level of the intervals.", gt=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "ReconstructConfig":
        if any(not 0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(
                "fractions must be above 0 and at most 1; 0 is the condition coder, all zero is the condition zero"
            )
        if not {"clean", "coder"} <= set(self.values):
            raise ValueError("values must name clean and coder: everything is compared with them")
        return self
