"""Models, loaded whole: every weight comes from the model's files, or there is no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nlsim.errors import DataError, NlsimError, UsageError
from nlsim.foreign import reason
from nlsim.subject.locate import Location
from nlsim.subject.tokenizer import load_failure

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LEAST_PER_LAYER = 1_000
"""Bytes that a layer has in a checkpoint."""
MOST_PER_BYTE = 4
"""Parameters in a byte of a checkpoint, at most: two in 4-bit weights, and twice that for weights that are shared."""
_WEIGHTS = (".safetensors", ".bin", ".gguf")


def load_pretrained(
    what: str, location: Location, auto: str = "AutoModelForCausalLM", unused: str | None = None, **options: Any
) -> PreTrainedModel:
    """The model at a place, by transformers' class `auto`, whose `from_pretrained` takes the `options`.

    transformers draws weights at random that the files lack. Raises DataError for those, unless their names contain
    `unused`, and for any other folder that cannot be loaded, UsageError for a missing package; torch.OutOfMemoryError
    passes.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # its table of missing weights: they are an error here
    path, revision, model_class = location.path, location.revision, getattr(transformers, auto)
    try:
        if location.local:
            config = transformers.AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
            _check_size(what, path, config, model_class)
        loaded: Any = model_class.from_pretrained(
            path, revision=revision, trust_remote_code=False, output_loading_info=True, **options
        )
    except (NlsimError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise UsageError(f"{path} needs a package that is not here ({reason(error)})", "install it") from error
    except Exception as error:  # whatever a damaged or foreign folder makes the library raise
        raise load_failure(what, location, error) from error
    finally:
        transformers.utils.logging.set_verbosity(before)
    whole: PreTrainedModel = loaded[0]
    if missing := sorted(key for key in loaded[1]["missing_keys"] if unused is None or unused not in key):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"the {what} {path} lacks weights that its config.json asks for ({missing[0]}{more})",
            "the folder is damaged or incomplete",
        )
    return whole


def _check_size(what: str, path: str, config: PreTrainedConfig, model_class: Any) -> None:
    """Raise DataError for a configuration of a model far larger than its files, before that takes all memory."""
    size = sum(file.stat().st_size for file in Path(path).iterdir() if file.suffix in _WEIGHTS)
    layers = config.get_text_config().num_hidden_layers
    if layers * LEAST_PER_LAYER <= size:
        with torch.device("meta"):
            shape = model_class.from_config(config, trust_remote_code=False)
        if sum(parameter.numel() for parameter in shape.parameters()) <= MOST_PER_BYTE * size:
            return
    raise DataError(
        f"the {what} {path} has weights of {size:,} bytes, too few for its config.json",
        "the folder is damaged or incomplete",
    )
