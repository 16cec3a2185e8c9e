"""When memory runs out."""

import gc

import torch

from nlsim.errors import UsageError


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: torch has its own error for it on a GPU, and none on a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give the GPU back what nothing refers to any more."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def too_little_memory() -> UsageError:
    """There is nothing left to make smaller."""
    return UsageError(
        "the model leaves no memory for its input",
        "use a smaller model or dtype, lm.device shard on several GPUs, or a quantized checkpoint with lm.engine vllm",
    )
