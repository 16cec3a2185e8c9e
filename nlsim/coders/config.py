"""Which coder to use, and how to train one."""

from typing import Any, Literal

from pydantic import Field, model_validator

from nlsim.base import Section

RELEASE = "saelens:"
"""Beginning of `coder.path` for a release of SAELens."""


class CoderConfig(Section):
    """A sparse coder: where it is, and which module of the subject it belongs to."""

    path: str = Field(
        default="nlsim:smollm2-layer8-skip",
        description="A shipped coder (nlsim:NAME), a file or folder (of nlsim, sparsify, SAELens, Gemma Scope, "
        "Llama Scope, dictionary_learning or OpenAI), "
        "a SAELens release (saelens:RELEASE/SAE_ID) or a Hugging Face hub folder (hub:OWNER/NAME[/FOLDER]).",
    )
    hookpoint: str | None = Field(
        default=None,
        description="Hookpoint to use in place of the one the coder's file names, for example layers.8.mlp.",
    )


class TrainCoderConfig(Section):
    """What kind of coder is trained, and how."""

    trainer: Literal["nlsim", "saelens"] = Field(
        default="nlsim",
        description="Who trains it: nlsim (SAEs and transcoders, topk and batchtopk), or SAELens' own classes (SAEs).",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further settings of SAELens' training class, e.g. {l1_coefficient: 5}."
    )
    kind: Literal["sae", "transcoder"] = Field(default="transcoder", description="What the coder rebuilds.")
    skip: bool = Field(default=False, description="Add a skip connection (transcoders only).")
    skip_start: Literal["least_squares", "zero"] = Field(
        default="least_squares", description="The skip connection before training."
    )
    skip_penalty: float = Field(
        default=0.0,
        ge=0,
        description="Weight in the loss of the skip connection's part of the output, relative to the target's "
        "variance; more leaves more of the work to the latents.",
    )
    activation: Literal["topk", "batchtopk", "relu", "jumprelu", "gated"] = Field(
        default="topk", description="Kind of sparsity; the last three with SAELens."
    )
    width: int = Field(default=1024, gt=0, description="Number of latents.")
    k: int = Field(default=32, gt=0, description="Active latents per token (topk, batchtopk).")
    learning_rate: float = Field(default=1e-3, gt=0, description="Adam's peak learning rate.")
    warmup: float = Field(default=0.02, ge=0, le=1, description="Part of the steps in which the rate rises from 0.")
    decay: float = Field(default=0.5, ge=0, le=1, description="Last part of the steps in which it falls to 0.")
    auxk: float = Field(default=1 / 32, ge=0, description="Weight of the loss that revives dead latents; 0: none.")
    dead_after: int = Field(default=100_000, gt=0, description="Tokens without firing that make a latent dead.")
    seed: int = Field(default=0, description="Of the initial weights.")

    @model_validator(mode="after")
    def _consistent(self) -> "TrainCoderConfig":
        if self.skip and self.kind == "sae":
            raise ValueError("an SAE has no skip connection; train a transcoder")
        if self.trainer == "saelens" and self.kind != "sae":
            raise ValueError("SAELens trains SAEs: set kind=sae, or trainer=nlsim")
        if self.trainer == "nlsim" and (self.options or self.activation not in ("topk", "batchtopk")):
            raise ValueError("nlsim trains topk and batchtopk without options: set trainer=saelens")
        if "topk" in self.activation and self.k > self.width:
            raise ValueError(f"k = {self.k} is more than the width {self.width}")
        return self


class StreamConfig(Section):
    """How the activations to train on are gathered and served."""

    tokens: int = Field(default=1_000_000, gt=0, description="Tokens to capture at most; text is not read twice.")
    epochs: int = Field(default=1, gt=0, description="Passes over them; more than one keeps them on disk.")
    batch: int = Field(default=1024, gt=0, description="Tokens per optimiser step.")
    buffer: int = Field(default=32_768, gt=0, description="Tokens in the shuffle buffer.")
    outlier_norm: float = Field(
        default=10.0, gt=1, description="Leave out tokens with more than this many times the median norm of their row."
    )
    seed: int = Field(default=0, description="Of the order of the data.")
