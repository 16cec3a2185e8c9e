"""How latents are explained."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from nlsim.base import Section, choice_or_plugin
from nlsim.lm.config import LmConfig

if TYPE_CHECKING:
    Method = str
else:
    Method = choice_or_plugin("lexical", "llm", "import")


class ExplainConfig(Section):
    """Explanations: by counting (`lexical`), by a language model (`llm`), or from a file (`import`)."""

    method: Method = Field(
        "lexical",
        description="`lexical`: rules found by counting, no language model; `llm`: written by the language model from "
        "examples; `import`: read from `path`; `plugin:NAME`: another package's (docs/plugins.md).",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Settings of a plugin, as it documents them.")
    path: str | None = Field(
        None, description="File of explanations for `import`: .json, .parquet or .csv with latent and text."
    )
    examples: int = Field(40, description="Contexts shown to the language model per latent.", ge=1)
    sampling: Literal["top", "random", "quantiles"] = Field(
        "quantiles", description="Which activating contexts are shown: strongest, any, or some of every strength."
    )
    quantiles: int = Field(10, description="Strength ranks from which `quantiles` draws equally.", ge=1)
    highlight: float = Field(
        0.2, description="Tokens above this part of their context's maximum are marked.", gt=0, le=1
    )
    budget: int = Field(32, description="Most tokens that a lexical explanation lists.", ge=1)
    min_tokens: int = Field(
        4, description="Latents active at fewer tokens of the explain split get no explanation.", ge=1
    )
    prompt_tokens: int = Field(
        4096, description="Longest prompt and answer together; examples are left out until it fits.", ge=64
    )
    max_tokens: int = Field(120, description="Longest answer of the language model, in its tokens.", ge=1)
    temperature: float = Field(0.0, description="Sampling temperature of the language model.", ge=0)
    lm: LmConfig | None = Field(None, description="Language model of this stage; none: the root's `lm`.")
    shards: int = Field(1, description="Parts the latents are cut into.", ge=1)
