"""LoRA adapters: where they are, and what those that nlsim trained know of their own training."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlsim.errors import DataError
from nlsim.foreign import json_of, local_path, reading
from nlsim.store.cache import cache_folder, file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

CARD = "nlsim.json"
"""File beside peft's that says what the adapter was taught with."""
FILES = ("adapter_model.safetensors", "adapter_config.json", CARD)


def adapter_folder(adapter: str) -> str:
    """Where engines read an adapter from: a folder or hub name as it is, a copy of what an s3:// URL names.

    Raises DataError when there is none at the URL.
    """
    if not adapter.startswith("s3://"):
        return str(local_path(adapter))
    copies = _copies(adapter)
    known = "".join(file_sha256(path) for _, path in sorted(copies.items()))
    folder = cache_folder() / "adapters" / hashlib.sha256(known.encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in copies.items():
        if not (folder / name).is_file():
            temporary = folder / f".{name}.{secrets.token_hex(6)}"  # of this process alone
            shutil.copyfile(path, temporary)
            temporary.replace(folder / name)
    return str(folder)


def _copies(adapter: str) -> dict[str, Path]:
    """Local copies of the files of an adapter in a bucket; they are fetched again only when they change."""
    from nlsim.store.objects import MissingObjectError, open_objects

    objects = open_objects(adapter)
    found: dict[str, Path] = {}
    for name in FILES:
        try:
            found[name] = objects.local(name)
        except MissingObjectError as error:
            if name != CARD:
                raise DataError(f"no adapter at {adapter} ({name} is missing)", "check lm.adapter") from error
    return found


def adapter_identity(adapter: str | None) -> dict[str, str]:
    """What pins down an adapter's weights: the SHA-256 of its files where they are at hand, else its name.

    At hand: in a folder or in a bucket. One that is yet to be trained is known by its name.
    """
    if not adapter:
        return {}
    if adapter.startswith("s3://"):
        try:
            return {f"adapter {name}": file_sha256(path) for name, path in _copies(adapter).items()}
        except DataError:
            return {"adapter": adapter}
    folder = local_path(adapter)
    if not folder.is_dir():
        return {"adapter": adapter}
    return {f"adapter {path.name}": file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


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
