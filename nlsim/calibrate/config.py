"""How predictions become activation values."""

from pydantic import Field

from nlsim.base import Section


class CalibrateConfig(Section):
    """Maps from predictions to activation values, fitted on the calibrate split only."""

    least_mass: float = Field(
        0.05, description="A prediction whose choices hold less probability than this counts as failed.", ge=0, lt=1
    )
    pooled_reads: float = Field(
        100.0,
        description="Quantile normalisation: a latent's own distribution of predictions is mixed with that of all "
        "latents, which weighs as much as this many of its reads. 0: its own alone.",
        ge=0,
    )
    independent_reads: float = Field(
        0.5,
        description="Reads of one document are alike: this part of them counts as independent evidence when a latent's "
        "own slope is estimated.",
        gt=0,
        le=1,
    )
    slope_bins: int = Field(
        3, description="Groups of latents by score, each with its own prior of how far predictions are trusted.", ge=1
    )
    fit_pairs: int = Field(
        200_000,
        description="At most so many (latent, position) pairs fit the shared curves; all active ones count first.",
        ge=1000,
    )
    reliability_bins: int = Field(12, description="Bins of the reliability diagrams.", ge=2)
    token_mean_prior: float | None = Field(
        None,
        description="Strength, in tokens, with which a token's mean code is shrunk to the overall mean; none: the "
        "strength that leaves the least squared error on the calibration rows.",
        ge=0,
    )
