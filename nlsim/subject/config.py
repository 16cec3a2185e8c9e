"""Which model is studied."""

from typing import Literal

from pydantic import Field

from nlsim.base import Section, speed_only


class SubjectConfig(Section):
    """A causal language model of the Hugging Face form."""

    model: str = Field(
        "smollm2-135m",
        min_length=1,
        description="A folder, a hub name, `smollm2-135m` (from the `smollm2` extra) or `nlsim:NAME` (shipped).",
    )
    revision: str | None = Field(None, description="Commit, tag or branch of a hub model.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the weights and activations. Logits and losses are always float32."
    )
    device: str = speed_only("auto", "`auto` takes CUDA if there is one; or `cpu`, `cuda`, `cuda:1`.")
    batch_tokens: int | None = speed_only(None, "Tokens in one forward pass. Default: chosen for the device.", ge=1)
