"""When memory runs out."""

import gc

import torch

from nlsim.errors import UsageError


def free_memory() -> None:
    """Give the GPU back what nothing refers to any more."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def no_room() -> UsageError:
    """There is nothing left to make smaller."""
    return UsageError(
        "the model leaves no memory for its input",
        "use a smaller model or dtype, lm.device shard on several GPUs, or a quantized checkpoint with lm.engine vllm",
    )
