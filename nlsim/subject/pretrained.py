"""Models, loaded whole: every weight comes from the model's files, or there is no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nlsim.errors import DataError, NlsimError, UsageError, is_out_of_memory
from nlsim.foreign import json_of, reason
from nlsim.subject.locate import Location
from nlsim.subject.tokenizer import DAMAGED, load_failure

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LEAST_PER_LAYER = 1_000
"""Bytes that a layer has in a checkpoint."""
MOST_PER_BYTE = 4
"""Parameters in a byte of a checkpoint, at most: two in 4-bit weights, and twice that for weights that are shared."""
MOST_LAYERS = 1_000
"""Of any model; published ones have at most a few hundred."""
_WEIGHTS = (".safetensors", ".bin")
_LAYERS = {"num_hidden_layers", "num_layers", "n_layer", "n_layers"}
"""What models call the number of their layers."""


def load_pretrained(
    what: str, location: Location, auto: str = "AutoModelForCausalLM", unused: str | None = None, **options: Any
) -> PreTrainedModel:
    """The model at a place, by transformers' class `auto`, whose `from_pretrained` takes the `options`.

    transformers draws weights at random that the files lack. Raises DataError for those, unless their names contain
    `unused`, and for any other folder that cannot be loaded, UsageError for a missing package; want of memory
    passes.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # its table of missing weights: they are an error here
    path, revision, model_class = location.path, location.revision, getattr(transformers, auto)
    try:
        if location.local:
            size = _size(path)
            _check_layers(what, path, size)  # before configurations of so many layers are made
            config = transformers.AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
            _check_parameters(what, path, size, config, model_class)
        loaded: Any = model_class.from_pretrained(
            path, revision=revision, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True,
            **options,
        )  # fmt: skip
    except NlsimError:
        raise
    except ImportError as error:
        raise UsageError(f"{path} needs a package that is not here ({reason(error)})", "install it") from error
    except Exception as error:  # whatever a damaged or foreign folder makes the library raise
        if is_out_of_memory(error):
            raise
        raise load_failure(what, location, error) from error
    finally:
        transformers.utils.logging.set_verbosity(before)
    whole: PreTrainedModel = loaded[0]
    if missing := sorted(key for key in loaded[1]["missing_keys"] if unused is None or unused not in key):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"the {what} {path} lacks weights that its config.json asks for ({missing[0]}{more})",
            DAMAGED,
        )
    if wrong := sorted(loaded[1]["mismatched_keys"]):
        name, found, asked = wrong[0]
        raise DataError(
            f"the {what} {path} has {name} of shape {tuple(found)} where its config.json asks for {tuple(asked)}",
            DAMAGED,
        )
    return whole


def _size(path: str) -> int:
    """Bytes of weights in a folder."""
    return sum(file.stat().st_size for file in Path(path).iterdir() if file.suffix in _WEIGHTS)


def _check_layers(what: str, path: str, size: int) -> None:
    """Raise DataError for a configuration of far more layers than its files can hold."""
    settings = json_of((Path(path) / "config.json").read_bytes())
    parts = [settings, *settings.values()] if isinstance(settings, dict) else []
    named = [value for part in parts if isinstance(part, dict) for name, value in part.items() if name in _LAYERS]
    layers = max((value for value in named if isinstance(value, int)), default=0)
    if layers > MOST_LAYERS or layers * LEAST_PER_LAYER > size:
        raise _too_few(what, path, size)


def _check_parameters(what: str, path: str, size: int, config: PreTrainedConfig, model_class: Any) -> None:
    """Raise DataError for a configuration of a model far larger than its files, before that takes all memory."""
    with torch.device("meta"):
        shape = model_class.from_config(config, trust_remote_code=False)
    if sum(parameter.numel() for parameter in shape.parameters()) > MOST_PER_BYTE * size:
        raise _too_few(what, path, size)


def _too_few(what: str, path: str, size: int) -> DataError:
    return DataError(
        f"the {what} {path} has weights of {size:,} bytes, too few for its config.json",
        DAMAGED,
    )
