"""How explanations are scored."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from nlsim.base import Section, choice_or_plugin
from nlsim.lm.config import LmConfig

if TYPE_CHECKING:
    ScorerName = str
else:
    ScorerName = choice_or_plugin("detection", "fuzzing", "embedding")


class ScoreConfig(Section):
    """Scores of explanations: a language model tells activating from other contexts."""

    scorers: tuple[ScorerName, ...] = Field(
        ("detection", "fuzzing"),
        description="`detection`: does the context contain the feature; `fuzzing`: are the marked tokens the right "
        "ones; `embedding`: similarity of explanation and context under a local embedding model; "
        "`plugin:NAME`: another package's (docs/plugins.md).",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of plugins, as they document them.")
    examples: int = Field(100, description="Activating contexts per latent, spread over strength ranks.", ge=1)
    others: int = Field(100, description="Contexts in which the latent is silent, per latent.", ge=1)
    silent: Literal["random", "hard", "similar"] = Field(
        "random",
        description="Which silent contexts: `random` ones, at the same places of their rows as the activating ones; "
        "`hard` ones, around the very tokens at which the latent is active elsewhere, as many as there are; `similar` "
        "ones, of ten times as many random ones those most like an activating one under `embedding_model`.",
    )
    quantiles: int = Field(10, description="Strength ranks from which activating contexts are drawn equally.", ge=1)
    batch: int = Field(5, description="Contexts per prompt; 1 asks about each alone.", ge=1)
    highlight: float = Field(
        0.3, description="Fuzzing marks tokens above this part of their context's maximum.", gt=0, le=1
    )
    embedding_model: str | None = Field(
        None, description="Folder of a local embedding model, for the scorer `embedding` and for `silent: similar`."
    )
    lm: LmConfig | None = Field(None, description="Language model of this stage; none: the root's `lm`.")
    shards: int = Field(1, description="Parts the latents are cut into.", ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "ScoreConfig":
        if self.silent == "similar" and not self.embedding_model:
            raise ValueError("silent: similar needs a model: set score.embedding_model")
        return self
