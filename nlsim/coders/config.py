"""Which coder to use, and how to train one."""

from typing import Literal

from pydantic import Field

from nlsim.base import Section


class CoderConfig(Section):
    """A sparse coder: where it is, and which module of the subject it belongs to."""

    path: str = Field(
        default="nlsim:smollm2-layer8-skip",
        description="A shipped coder (nlsim:NAME), a file or folder (nlsim, sparsify or SAELens format), "
        "a SAELens release (saelens:RELEASE/SAE_ID) or a Hugging Face hub folder (hub:OWNER/NAME[/FOLDER]).",
    )
    hookpoint: str | None = Field(
        default=None,
        description="Hookpoint to use in place of the one the coder's file names, for example layers.8.mlp.",
    )


class TrainCoderConfig(Section):
    """How `nlsim models train-coder` trains; the same configuration gives the same file on the same machine."""

    kind: Literal["sae", "transcoder"] = Field(default="transcoder", description="What the coder rebuilds.")
    skip: bool = Field(default=False, description="Add a skip connection (transcoders only).")
    skip_start: Literal["least_squares", "zero"] = Field(
        default="least_squares", description="The skip connection before training."
    )
    activation: Literal["topk", "batchtopk"] = Field(default="topk", description="Kind of sparsity.")
    width: int = Field(default=1024, gt=0, description="Number of latents.")
    k: int = Field(default=32, gt=0, description="Active latents per token.")
    tokens: int = Field(default=1_000_000, gt=0, description="Tokens to capture; the text is not repeated to reach it.")
    epochs: int = Field(
        default=1, gt=0, description="Passes over the captured activations; more than one keeps them on disk."
    )
    batch: int = Field(default=1024, gt=0, description="Tokens per optimiser step.")
    buffer: int = Field(default=65_536, gt=0, description="Tokens in the shuffle buffer.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's peak learning rate.")
    warmup: float = Field(default=0.02, ge=0, le=1, description="Part of the steps in which the rate rises from 0.")
    decay: float = Field(default=0.5, ge=0, le=1, description="Last part of the steps in which it falls to 0.")
    auxk: float = Field(
        default=1 / 32, ge=0, description="Weight of the loss that revives dead latents; 0 switches it off."
    )
    dead_after: int = Field(
        default=100_000, gt=0, description="Tokens without firing after which a latent counts as dead."
    )
    dtype: Literal["f16", "f32"] = Field(default="f16", description="Type of the stored weights.")
    seed: int = Field(default=0, description="Of the initial weights and the order of the data.")
