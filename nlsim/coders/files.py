"""Reading other tools' files safely: weights only, whole, and no larger than memory."""

import json
import os
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nlsim.errors import DataError, is_out_of_memory
from nlsim.foreign import hub_remedy, reason


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or DataError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}", reason(error)) from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no settings", "it is not a coder's configuration")
    return value


def read_torch(path: Path, device: str = "cpu") -> dict[str, Any]:
    """A state dict that `torch.save` wrote. Nothing in the file is run: one that holds more than weights is refused."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds more than weights: reading it could run code",
            "convert it to safetensors where you trust it, e.g. with its own library",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        if is_out_of_memory(error):
            raise
        raise DataError(f"{path} is damaged or was not downloaded whole", reason(error)) from error
    if not isinstance(state, dict):
        raise DataError(f"{path} holds a {type(state).__name__}, not named weights", "save the module's state_dict")
    return state


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a NumPy archive, pickles refused. Raises DataError when it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:  # unpacked it may be far larger than its file
            check_memory(path, sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path} is damaged, or no archive of arrays", reason(error)) from error


def check_room(path: Path, files: Iterable[Path]) -> None:
    """Raise DataError when the largest of the files of the coder at `path` is larger than the memory that is free."""
    check_memory(path, max((file.stat().st_size for file in files), default=0))


def check_memory(path: Path, size: int) -> None:
    """Raise DataError when `size` bytes of the coder at `path` do not fit into the memory that is free."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    if size > free:
        raise DataError(
            f"{path} needs at least {size / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free",
            "use a machine with more memory",
        )


def download_failure(what: str, error: Exception) -> DataError:
    """One line for something that cannot be had from the hub, with what to do about the likely cause."""
    todo = "check the network; `nlsim plan` prints the commands that download it elsewhere"
    if any(sign in str(error).lower() for sign in ("not found", "404", "valid ids")):
        todo = "check the name"
    return DataError(f"cannot get {what} from the Hugging Face hub ({reason(error)})", hub_remedy(error, todo))
