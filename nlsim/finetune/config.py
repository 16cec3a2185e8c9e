"""How a language model is taught to simulate."""

from typing import Literal

from pydantic import Field

from nlsim.base import Section, speed_only


class FinetuneConfig(Section):
    """Examples from the train split, LoRA, and judging on latents and documents that were left out."""

    held_out: float = Field(
        0.1, description="Share of the latents, and of the documents, that are only judged with.", gt=0, lt=1
    )
    active: int = Field(8, description="Windows of each latent that end where it is active.", ge=1)
    silent: int = Field(24, description="Windows of each latent that end where it is silent.", ge=1)
    near: float = Field(
        0.5, description="Share of these from rows in which the latent is active elsewhere.", ge=0, le=1
    )
    shuffle: bool = Field(
        False, description="Control: teach with each latent's windows under another latent's explanation."
    )
    rank: int = Field(8, description="Rank of the LoRA matrices.", ge=1)
    alpha: int = Field(16, description="LoRA's scale: updates are multiplied by alpha / rank.", ge=1)
    dropout: float = Field(0.05, description="Dropout before the LoRA matrices.", ge=0, lt=1)
    targets: tuple[str, ...] = Field(
        (), description="Names of the modules that get LoRA matrices; none: all linear ones but the head."
    )
    quantize: Literal["none", "8bit"] = Field(
        "none", description="`8bit`: the base model's weights in 8 bits (bitsandbytes, on a GPU)."
    )
    learning_rate: float = Field(2e-4, description="AdamW's peak rate; it falls linearly to 0.", gt=0)
    warmup: float = Field(0.03, description="First part of the steps, in which the rate rises.", ge=0, le=1)
    batch: int = Field(16, description="Examples of one optimiser step.", ge=1)
    epochs: float = Field(1.0, description="Passes over the examples.", gt=0)
    steps: int | None = Field(None, description="At most so many optimiser steps.", ge=1)
    judged: int = Field(256, description="Held-out examples whose loss makes the curve.", ge=1)
    judge_every: int = Field(50, description="Optimiser steps between its points.", ge=1)
    micro_batch: int = speed_only(4, "Examples of one forward pass.", ge=1)
    checkpointing: bool = speed_only(False, "Recompute activations in the backward pass: less memory, more time.")
    save_every: int = speed_only(50, "Optimiser steps after which the state is saved, to carry on from.", ge=1)
    shards: int = Field(1, description="Parts the latents are cut into while examples are made.", ge=1)
