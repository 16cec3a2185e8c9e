"""What the report shows."""

from pydantic import Field

from nlsim.base import Section


class ReportConfig(Section):
    """Contents of the report."""

    contexts: int = Field(8, description="Strongest contexts shown for each latent.", ge=0)
    quantile_contexts: int = Field(4, description="Further contexts, spread over the latent's activation ranks.", ge=0)
    browser_latents: int = Field(10_000, description="At most so many latents in the latent browser.", ge=1)
    windows: int = Field(4, description="Evaluation windows per latent shown with predicted and true values.", ge=0)
    title: str = Field("", description="Title of the page; empty: the run's name.")
