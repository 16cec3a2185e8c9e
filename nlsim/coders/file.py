"""Our coder file: one safetensors file, the tensors of `sparse.shapes` plus the metadata as JSON in its header."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nlsim.coders.coder import CoderMeta
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError

KEY = "nlsim.coder"  # the header entry with the metadata; its presence makes a safetensors file a coder of ours
DTYPES = {"f16": torch.float16, "f32": torch.float32}


def write_coder(coder: SparseCoder, path: Path, dtype: Literal["f16", "f32"] = "f32") -> None:
    """Write `coder` to `path`; equal coders give equal bytes. Raises DataError for a weight too large for `dtype`."""
    tensors = {name: tensor.to(DTYPES[dtype]).cpu().contiguous() for name, tensor in coder.tensors.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"the coder's {name} does not fit into {dtype}", "store it as f32")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(tensors, metadata={KEY: coder.meta.model_dump_json(exclude_defaults=True)}))


def matches(path: Path) -> bool:
    """Whether `path` is a safetensors file with our metadata."""
    return path.is_file() and path.suffix == ".safetensors" and KEY in read_safetensors(path, tensors=False)[0]


def meta(path: Path) -> CoderMeta:
    """The metadata in a file that `write_coder` made. Raises DataError when it is not one or is damaged."""
    return _meta(path, read_safetensors(path, tensors=False)[0])


def read(path: Path, device: str = "cpu") -> SparseCoder:
    """The coder in a file that `write_coder` made. Raises DataError when it is not one or is damaged."""
    metadata, tensors = read_safetensors(path, device)
    return SparseCoder(_meta(path, metadata), tensors)


def _meta(path: Path, metadata: Mapping[str, str]) -> CoderMeta:
    if KEY not in metadata:
        raise DataError(f"{path} is not an nlsim coder file", f"its safetensors header has no entry {KEY}")
    try:
        return CoderMeta.model_validate_json(metadata[KEY])
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "JSON"
        raise DataError(f"the metadata of {path} are wrong at {place}", str(fault["msg"])) from error


def read_safetensors(
    path: Path, device: str = "cpu", *, tensors: bool = True
) -> tuple[Mapping[str, str], dict[str, Tensor]]:
    """Header entries and tensors of a safetensors file; DataError when it is missing, cut short or no such file."""
    if not path.is_file():
        raise DataError(f"no file {path}", "check the path")
    try:
        with safe_open(path, framework="pt", device=device) as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable safetensors file", str(error).splitlines()[0]) from error
