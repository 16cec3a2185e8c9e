"""What a sparse coder is: it writes a vector as a short list of active latents, and turns the list into a vector."""

from typing import Literal, NamedTuple, Protocol

from pydantic import Field
from torch import Tensor

from nlsim.base import Section

Kind = Literal["sae", "transcoder"]
Activation = Literal["topk", "batchtopk", "relu", "jumprelu", "groupmax"]
Normalization = Literal["none", "layer_norm", "constant_norm", "centred"]


class Codes(NamedTuple):
    """The active latents of N vectors, strongest first. A value of 0 means no latent, whatever the index."""

    index_NK: Tensor
    """int64: latent numbers, 0 ≤ index < width."""
    value_NK: Tensor
    """float32: activations, ≥ 0."""


class CoderMeta(Section):
    """What has to be known of a coder to use it, apart from its weights."""

    kind: Kind = Field(
        description="sae: rebuilds the vector it reads; transcoder: predicts a module's output from its input."
    )
    hookpoint: str = Field(description="Name of the module it belongs to, for example layers.8.mlp.")
    d_in: int = Field(gt=0, description="Components of the vector it reads.")
    d_out: int = Field(gt=0, description="Components of the vector it writes.")
    width: int = Field(gt=0, description="Number of latents M.")
    activation: Activation = Field(description="What turns pre-activations into activations.")
    k: int | None = Field(
        default=None, gt=0, description="Latents kept per vector (topk), on average (batchtopk), groups (groupmax)."
    )
    normalization: Normalization = Field(
        default="none",
        description="What is done to each vector before it is read, and undone on what is written (SAEs only): "
        "layer_norm: mean 0, standard deviation 1; constant_norm: length √d_in; centred: mean 0.",
    )
    skip: bool = Field(default=False, description="Whether a linear map of the input is added to the output.")
    subject: str = Field(default="", description="The language model it was trained on, where known.")
    training: dict[str, str | int | float] = Field(
        default_factory=dict, description="How it was trained, for people to read; nothing depends on it."
    )


class Coder(Protocol):
    """Encode and decode. All arithmetic is in float32 whatever the input's type."""

    meta: CoderMeta

    @property
    def decoder_MD(self) -> Tensor:
        """[width, d_out]: what one unit of each latent adds to the output."""
        ...

    def encode(self, x_ND: Tensor) -> Codes:
        """The active latents of each row, in chunks of bounded size: never [N, width] at once."""
        ...

    def decode(self, codes: Codes, x_ND: Tensor) -> Tensor:
        """y_NO = Σ_k value · decoder[index] + bias (+ skip(x)). `x_ND` is the coder's input, for a skip."""
        ...

    def decode_dense(self, z_NM: Tensor, x_ND: Tensor) -> Tensor:
        """The same from a dense matrix of activations; z = 0 gives the bias and the skip connection alone."""
        ...
