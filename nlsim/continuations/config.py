"""Which continuations are made."""

from typing import Literal

from pydantic import Field, model_validator

from nlsim.base import Section


class ContinuationsConfig(Section):
    """Continuations of a few prompts under every condition, for the page `report/interactive.html`; none by default."""

    prompts: tuple[str, ...] = Field((), description="Beginnings of texts to continue; BOS is put before them.")
    documents: int = Field(
        0,
        description="Beginnings of so many held-out documents (of the evaluate split) to continue, after `prompts`. "
        "0 and no `prompts`: no continuations.",
        ge=0,
    )
    prompt_tokens: int = Field(16, description="Tokens taken from the beginning of a document's row.", ge=1)
    tokens: int = Field(24, description="Tokens written, at most; a special token ends a text earlier.", ge=1)
    temperature: float = Field(
        0.0,
        description="0: the likeliest token is written. Above: a sample; all conditions share its random numbers, "
        "token by token, so that texts differ for no other reason than their distributions.",
        ge=0,
    )
    fractions: tuple[float, ...] = Field(
        (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
        description="Parts of each token's true active latents that are kept. None and all of them are always shown.",
    )
    orders: tuple[Literal["top", "random"], ...] = Field(
        ("top", "random"), description="Which are kept: the strongest (`top`), or a random choice."
    )
    kinds: tuple[str, ...] | None = Field(
        None,
        description="Kinds of explanations that are shown; none: all of the run's. One whose large language model "
        "is asked about single tokens is expensive.",
    )
    found_at: float = Field(
        0.5, description="A latent counts as found where its calibrated chance of activity reaches this.", gt=0, le=1
    )
    free_running: bool = Field(
        True, description="Let every condition write its own text, beside predicting the unpatched model's."
    )
    likeliest: int = Field(5, description="Next tokens stored of each distribution, the likeliest ones.", ge=1)
    false_alarms: int = Field(
        12, description="Silent latents stored per token and kind of explanations: those most wrongly found.", ge=0
    )

    @property
    def prompts_at_most(self) -> int:
        """Prompts that are continued, documents permitting."""
        return len(self.prompts) + self.documents

    @model_validator(mode="after")
    def _fits(self) -> "ContinuationsConfig":
        if any(not 0 < fraction < 1 for fraction in self.fractions):
            raise ValueError("fractions must lie between 0 and 1; none and all of the latents are always shown")
        if any(not prompt.strip() for prompt in self.prompts):
            raise ValueError("prompts must not be empty")
        return self
