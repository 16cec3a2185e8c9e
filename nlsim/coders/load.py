"""From a configured name to a coder. A further format is a module with `matches`, `meta` and `read` in `FORMATS`."""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Protocol

from nlsim.coders import dictionary_learning, gemma_scope, llama_scope, openai, saelens, sparsify
from nlsim.coders import file as nlsim_format
from nlsim.coders.coder import CoderMeta
from nlsim.coders.config import RELEASE, CoderConfig
from nlsim.coders.files import check_room, download_failure
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError, UsageError
from nlsim.foreign import local_path, reading


class Format(Protocol):
    """A way of storing one coder in a file or folder."""

    def matches(self, path: Path) -> bool:
        """Whether `path` looks like this format; must not read weights."""
        ...

    def meta(self, path: Path) -> CoderMeta:
        """Its metadata. Raises DataError when they cannot be used."""
        ...

    def read(self, path: Path, device: str) -> SparseCoder:
        """The coder. Raises DataError for damaged or unsupported files."""
        ...


SHIPPED = Path(str(resources.files("nlsim.assets"))) / "coders"

NOT_READ = "it is damaged, or in another form than docs/coders.md names"
WEIGHTS = (".json", ".safetensors", ".npz", ".pt")
"""Suffixes of the files that make up a coder's folder."""

FORMATS: tuple[Format, ...] = (nlsim_format, sparsify, saelens, gemma_scope, llama_scope, dictionary_learning, openai)


def load_coder(config: CoderConfig, device: str = "cpu") -> SparseCoder:
    """The configured coder, in float32 on `device`.

    Raises DataError when it is missing, damaged or of an unknown format, UsageError for a shipped name that does not
    exist.
    """
    if config.path.startswith(RELEASE):
        coder = saelens.read_release(config.path.removeprefix(RELEASE), device)
    else:
        path = locate(config)
        form = _format(path)
        check_room(path, coder_files(path))
        with reading(f"the coder {path}", NOT_READ):
            coder = form.read(path, device)
    return SparseCoder(_renamed(coder.meta, config), coder.tensors)


def coder_meta(config: CoderConfig, download: bool = True) -> CoderMeta:
    """The configured coder's metadata; reads no weights where the format keeps them apart. Raises as `load_coder`, and
    DataError without `download` for a coder of the hub that is not here."""
    if config.path.startswith(RELEASE):
        if not download:
            raise DataError(f"{config.path} may not be here", "let it be downloaded")
        return load_coder(config).meta
    path = locate(config, download)
    with reading(f"the coder {path}", NOT_READ):
        return _renamed(_format(path).meta(path), config)


def coder_files(path: Path) -> list[Path]:
    """The files that make up the coder at `path`."""
    if path.is_file():
        return [path]
    inner = path / llama_scope.WEIGHTS  # the only one that is not beside its settings
    return sorted(p for p in (*path.iterdir(), inner) if p.suffix in WEIGHTS and p.is_file())


def coder_identity(config: CoderConfig) -> dict[str, str]:
    """What pins the coder's content down: digests of its files; of a downloaded SAELens release, its name."""
    if config.path.startswith(RELEASE):
        return {"coder": config.path}
    path = locate(config)
    identity = {}
    for item in coder_files(path):
        with item.open("rb") as stream:
            identity[f"coder/{item.name}" if path.is_dir() else "coder"] = hashlib.file_digest(
                stream, "sha256"
            ).hexdigest()
    return identity


def check_fit(meta: CoderMeta, d_in: int, d_out: int) -> None:
    """Raise DataError unless the subject's hookpoint reads and writes vectors of the coder's widths."""
    if (meta.d_in, meta.d_out) != (d_in, d_out):
        raise DataError(
            f"the coder maps {meta.d_in} components to {meta.d_out}, but {meta.hookpoint} maps {d_in} to {d_out}",
            "coder and subject do not belong together",
        )


def locate(config: CoderConfig, download: bool = True) -> Path:
    """The file or folder that the configuration means; shipped coders and the hub's are found by name."""
    source, _, name = config.path.partition(":")
    if source == "nlsim" and name:
        path = _shipped(name)
    elif source == "hub" and name:
        path = _downloaded(name, download)
    else:
        path = local_path(config.path)
    if path.is_dir() and config.hookpoint and (path / config.hookpoint).is_dir():
        path = path / config.hookpoint  # a folder of coders, one folder per hookpoint
    if not path.exists():
        raise DataError(
            f"no coder at {path}", "give a file, a folder, nlsim:NAME, hub:OWNER/NAME or saelens:RELEASE/ID"
        )
    return path


def shipped_coders() -> dict[str, Path]:
    """Name → file of the coders that come with nlsim."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}


def _shipped(name: str) -> Path:
    known = shipped_coders()
    if name not in known:
        raise UsageError(
            f"no coder is shipped as nlsim:{name}", f"shipped: {', '.join(f'nlsim:{n}' for n in known) or 'none'}"
        )
    return known[name]


def _downloaded(name: str, download: bool) -> Path:
    owner, _, rest = name.partition("/")
    repository, _, folder = rest.partition("/")
    if not repository:
        raise UsageError(f"hub:{name} names no repository", "write hub:OWNER/NAME or hub:OWNER/NAME/FOLDER")
    from huggingface_hub import snapshot_download

    try:
        wanted = f"{folder}/*" if folder else None
        root = snapshot_download(f"{owner}/{repository}", allow_patterns=wanted, local_files_only=not download)
    except Exception as error:  # the hub's client raises many unrelated types; all mean that the files are not here
        raise download_failure(f"the coder {name}", error) from error
    return Path(root) / folder


def _format(path: Path) -> Format:
    for form in FORMATS:
        if form.matches(path):
            return form
    raise DataError(
        f"{path} is no coder of a known format",
        "known: an nlsim .safetensors file, a sparsify folder (cfg.json, sae.safetensors), a SAELens folder "
        "(cfg.json, sae_weights.safetensors), Gemma Scope (params.npz), Llama Scope (hyperparams.json, checkpoints), "
        "dictionary_learning (ae.pt), OpenAI (.pt)" + _half_downloaded(path),
    )


def _half_downloaded(path: Path) -> str:
    """What a folder's unfinished files say about why it is not recognised."""
    unfinished = (
        [p.name for p in path.iterdir() if p.suffix in (".incomplete", ".part", ".tmp")] if path.is_dir() else []
    )
    return f"; {unfinished[0]} was not downloaded whole: fetch it again" if unfinished else ""


def _renamed(meta: CoderMeta, config: CoderConfig) -> CoderMeta:
    hookpoint = config.hookpoint or meta.hookpoint
    if not hookpoint:
        raise UsageError(
            f"the coder {config.path} does not say where it belongs", "set coder.hookpoint, e.g. layers.6.mlp"
        )
    return meta.model_copy(update={"hookpoint": hookpoint})
