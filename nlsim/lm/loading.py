"""Loading tokenizers and models of the in-process engines."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from nlsim.errors import DataError, UsageError, is_out_of_memory
from nlsim.foreign import reason
from nlsim.lm.adapter import adapter_folder
from nlsim.lm.config import LmConfig
from nlsim.subject.config import SubjectConfig
from nlsim.subject.locate import Location, locate
from nlsim.subject.pretrained import load_pretrained
from nlsim.subject.tokenizer import read_tokenizer


def device_of(config: LmConfig) -> torch.device:
    """The device that inputs go to. Raises UsageError when it is not there."""
    name = config.device
    if name in ("auto", "shard"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"lm.device {name!r} is not a device", "use cpu, cuda, cuda:1, auto or shard") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"lm.device {name}: there is no such GPU here", "use lm.device auto")
    return device


def hardware(device: torch.device) -> str:
    """A device in words."""
    if device.type != "cuda":
        return f"{torch.get_num_threads()} CPU threads"
    return f"{torch.cuda.get_device_name(device)} ({torch.cuda.device_count()} here)"


def dtype_of(config: LmConfig, device: torch.device) -> torch.dtype:
    """The precision of weights and activations."""
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.dtype]
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def place_of(config: LmConfig, name: str) -> Location:
    """Where a model or tokenizer is read from."""
    return locate(SubjectConfig(model=name, revision=config.revision))


def load_tokenizer(config: LmConfig) -> Any:
    """The tokenizer of the model. Raises DataError when it cannot be loaded."""
    return read_tokenizer(place_of(config, config.tokenizer or config.model))


def load_model(config: LmConfig) -> Any:
    """The model, in evaluation mode, on its device or spread over all GPUs.

    Raises DataError when it cannot be loaded, UsageError when it needs more memory or packages than there are.
    """
    device = device_of(config)
    location = place_of(config, config.model)
    placement: dict[str, Any] = {}
    if device.type == "cuda":  # weights go straight to where they belong
        placement = {"device_map": "auto" if config.device == "shard" else {"": device}}
    try:
        model: Any = load_pretrained("language model", location, dtype=dtype_of(config, device), **placement)
    except torch.OutOfMemoryError as error:
        raise _too_large(config) from error
    if any(parameter.is_meta for parameter in model.parameters()):  # accelerate keeps what is left over elsewhere
        raise _too_large(config)
    if config.adapter:
        model = _adapted(model, config.adapter)
    return model.eval().requires_grad_(False)


def _too_large(config: LmConfig) -> UsageError:
    several = torch.cuda.device_count() > 1 and config.device != "shard"
    return UsageError(
        f"{config.model} is larger than the memory of the GPU{'s' if config.device == 'shard' else ''}",
        f"use {'lm.device shard, ' if several else 'more GPUs, '}or a quantized checkpoint with lm.engine vllm",
    )


def _adapted(model: Any, adapter: str) -> Any:
    """`model` with a LoRA adapter merged into its weights."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise UsageError("lm.adapter needs peft", "pip install peft") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, about a name that peft uses
            # peft leaves out what the files lack, as if the model had not been taught there
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(model, adapter_folder(adapter)).merge_and_unload()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"adapter {adapter!r} does not fit the model ({reason(error)})", "check lm.adapter") from error


def context_length(model: Any) -> int:
    """The longest prompt the model takes: learned positions, or what rotary frequencies that depend on length allow."""
    config = model.config.get_text_config()
    longest = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
    rope = getattr(config, "rope_parameters", None) or {}
    for section in rope.values() if any(isinstance(value, dict) for value in rope.values()) else [rope]:
        if isinstance(section, dict) and section.get("rope_type") in ("dynamic", "longrope"):
            longest = min(longest, int(section.get("original_max_position_embeddings") or longest))
    return longest


def check_length(tokens: int, longest: int) -> None:
    """Raise UsageError for a prompt that the model cannot take."""
    if tokens > longest:
        raise UsageError(
            f"a prompt has {tokens} tokens, the model takes {longest}",
            "show fewer examples or shorter contexts, or choose a model with a longer context",
        )
