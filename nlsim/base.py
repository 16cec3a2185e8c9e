"""What every configuration section and stored record has in common."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A frozen pydantic model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def speed_only(default: Any, description: str, **constraints: Any) -> Any:
    """A field that changes how fast or where something is computed, never what: it is left out of fingerprints."""
    return Field(default, description=description, json_schema_extra={"speed_only": True}, **constraints)


def fingerprint_view(value: Any) -> Any:
    """`value` as plain JSON without the fields declared `speed_only`."""
    if isinstance(value, BaseModel):
        view = {}
        for name, field in type(value).model_fields.items():
            extra = field.json_schema_extra
            if not (isinstance(extra, dict) and extra.get("speed_only")):
                view[name] = fingerprint_view(getattr(value, name))
        return view
    if isinstance(value, dict):
        return {str(key): fingerprint_view(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fingerprint_view(item) for item in value]
    return value


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of `value`'s canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]
