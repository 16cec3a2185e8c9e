"""What every configuration section and stored record has in common."""

import hashlib
import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema


class Section(BaseModel):
    """A frozen pydantic model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def speed_only(default: Any, description: str, **constraints: Any) -> Any:
    """A field that changes how fast or where something is computed, never what: it is left out of fingerprints."""
    return Field(default, description=description, json_schema_extra={"speed_only": True}, **constraints)


PLUGIN = "plugin:"
"""Beginning of a configured name that means something from another package."""


def choice_or_plugin(*choices: str) -> Any:
    """The type of a field that takes one of `choices`, or plugin:NAME."""

    def check(value: str) -> str:
        if value not in choices and not (value.startswith(PLUGIN) and len(value) > len(PLUGIN)):
            raise ValueError(f"Input should be {', '.join(map(repr, choices))} or {PLUGIN}NAME")
        return value

    schema = {"anyOf": [{"enum": list(choices)}, {"type": "string", "pattern": f"^{PLUGIN}.+"}]}
    return Annotated[str, AfterValidator(check), WithJsonSchema(schema)]


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
