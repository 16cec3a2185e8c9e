"""From a model's name to the place its files are read from, and to what pins down their content."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from nlsim.errors import DataError, UsageError
from nlsim.foreign import local_path
from nlsim.store.cache import file_sha256
from nlsim.subject.config import SubjectConfig

SMOLLM2 = "smollm2-135m"
_TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model"}


class Location(NamedTuple):
    """Where `from_pretrained` finds a model."""

    path: str
    """A folder, or a hub name."""
    revision: str | None
    local: bool


def locate(config: SubjectConfig) -> Location:
    """The place of a model; SmolLM2 is converted on first use.

    Raises DataError for a folder that is missing or holds no model, UsageError for an unknown shipped model.
    """
    if config.model == SMOLLM2:
        from nlsim.subject.smollm2 import smollm2_folder

        return Location(str(smollm2_folder()), None, local=True)
    folder = local_folder(config.model)
    if folder is None:
        return Location(config.model, config.revision, local=False)
    if not folder.is_dir():
        raise DataError(f"the model folder {folder} does not exist", "give a folder with config.json, or a hub name")
    if not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} is no model folder: it has no config.json", "give the folder that save_pretrained wrote"
        )
    return Location(str(folder), None, local=True)


def model_identity(config: SubjectConfig) -> dict[str, str]:
    """What pins down a model's weights and tokenizer: digests of local files, or the hub revision."""
    return _identity(config, weights=True)


def tokenizer_identity(config: SubjectConfig) -> dict[str, str]:
    """Like `model_identity` for the tokenizer alone."""
    return _identity(config, weights=False)


def _identity(config: SubjectConfig, weights: bool) -> dict[str, str]:
    if config.model == SMOLLM2:
        from nlsim.subject.smollm2 import GGUF_SHA256

        return {"model": GGUF_SHA256}
    if local_folder(config.model) is None:
        return {"revision": config.revision or "main"}
    folder = Path(locate(config).path)
    names = {
        p.name for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".bin", ".model"} and p.is_file()
    }
    if not weights:
        names &= _TOKENIZER_FILES
    return {name: file_sha256(folder / name) for name in sorted(names)}


def local_folder(model: str) -> Path | None:
    """The folder that a name means, or None for a hub name (`owner/name`, or a bare name that is no folder here)."""
    if model.startswith("nlsim:"):
        assets = Path(str(resources.files("nlsim.assets")))
        folder = assets / model.removeprefix("nlsim:")
        if not folder.is_dir():
            known = sorted(f"nlsim:{p.parent.relative_to(assets)}" for p in assets.rglob("config.json"))
            raise UsageError(f"no model is shipped as {model}", f"shipped: {', '.join(known) or 'none'}, {SMOLLM2}")
        return folder
    path = local_path(model)
    if path.is_dir() or path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        return path
    return None
