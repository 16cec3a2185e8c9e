"""How activations are predicted from explanations."""

from typing import Literal

from pydantic import Field, model_validator

from nlsim.base import Section
from nlsim.lm.config import LmConfig


class SimulateConfig(Section):
    """Predictions: every explained latent at every chosen position of every evaluation and calibration window."""

    prompt: Literal["digit", "binary"] = Field(
        "digit", description="`digit`: how strong, 0 to 9; `binary`: active or not, 0 or 1."
    )
    positions: Literal["last", "all"] = Field(
        "all",
        description="`last`: the last token of the window, marked, one prompt each; `all`: every token of the window "
        "in one prompt, each followed by a slot whose digit is read in the same pass.",
    )
    calibration_rows: int = Field(40, description="Rows of the calibrate split that are predicted.", ge=1)
    evaluation_rows: int = Field(64, description="Rows of the evaluate split that are predicted.", ge=1)
    window: int | None = Field(
        None, description="Tokens of text shown, ending at the last predicted position; none: the whole row.", ge=2
    )
    order: Literal["explanation_first", "text_first", "auto"] = Field(
        "explanation_first",
        description="What comes first in a prompt of `positions: last`, hence is computed once for many prompts; "
        "`auto`: what costs fewer tokens. Answers depend on it, so kinds that are compared should agree in it.",
    )
    shots: int = Field(3, description="Worked examples in chat and base prompts.", ge=0)
    show_score: Literal["detection", "fuzzing"] | None = Field(
        None,
        description="Tell the model how well each explanation scored; not for nlsim's own simulator, which was not "
        "trained with scores.",
    )
    pool: int | None = Field(
        None,
        description="Ask, at each read, about the latents that are active there and so many others drawn at random, "
        "each of which stands for its share of the rest; none: about all latents. For the experiment `blog`.",
        ge=0,
    )
    latents_per_tile: int = Field(256, description="Latents of one tile, the unit of work and of storage.", ge=1)
    lm: LmConfig | None = Field(None, description="Language model of this stage; none: the root's `lm`.")
    shards: int = Field(1, description="Parts the latents are cut into.", ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "SimulateConfig":
        if self.order == "text_first" and (self.positions == "all" or self.pool is not None):
            raise ValueError("order: text_first needs positions: last, and no pool")
        return self
