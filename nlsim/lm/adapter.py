"""LoRA adapters: where they are, and what those that nlsim trained know of their own training."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlsim.errors import DataError
from nlsim.foreign import json_of, local_path, reading

if TYPE_CHECKING:
    from collections.abc import Mapping

CARD = "nlsim.json"
"""File beside peft's that says what the adapter was taught with."""
FILES = ("adapter_model.safetensors", "adapter_config.json", CARD)


def adapter_folder(adapter: str) -> str:
    """Where engines read an adapter from: a folder or hub name as it is, a copy of what an s3:// URL names."""
    if not adapter.startswith("s3://"):
        return str(local_path(adapter))
    from nlsim.store.cache import cache_folder
    from nlsim.store.objects import MissingObjectError, open_objects

    objects = open_objects(adapter)
    found: dict[str, bytes] = {}
    for name in FILES:
        try:
            found[name] = objects.get(name)
        except MissingObjectError as error:
            if name != CARD:
                raise DataError(f"no adapter at {adapter} ({name} is missing)", "check lm.adapter") from error
    digest = hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()[:32]
    folder = cache_folder() / "adapters" / digest
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        if not (folder / name).is_file():
            temporary = folder / f".{name}.{digest[:8]}"
            temporary.write_bytes(data)
            temporary.replace(folder / name)
    return str(folder)


def adapter_identity(adapter: str | None) -> dict[str, str]:
    """What pins down an adapter's weights: the SHA-256 of its files where they are at hand, else its name."""
    if not adapter:
        return {}
    folder = Path(adapter_folder(adapter))
    if not folder.is_dir():
        return {"adapter": adapter}
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return {f"adapter {name}": hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def read_card(adapter: str | None) -> Mapping[str, Any] | None:
    """What an adapter that nlsim trained says of its training; None for any other."""
    path = Path(adapter_folder(adapter)) / CARD if adapter else None
    if path is None or not path.is_file():
        return None
    with reading(path, "train the adapter again, or remove the file"):
        card = json_of(path.read_bytes())
        if not {"template", "coder", "latents", "documents"} <= card.keys() or not isinstance(card["template"], dict):
            raise ValueError("it does not say what the adapter was taught")
        return {**card, "latents": set(card["latents"]), "documents": set(card["documents"])}
