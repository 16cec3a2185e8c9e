"""Generated Kubernetes models that refuse what they do not know: by themselves they drop unknown fields in silence."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def checked(kind: type[Model], data: dict[str, Any]) -> Model:
    """`data` as a model of type `kind`. Raises ValueError when a field, at any depth, got lost or changed."""
    model = kind.model_validate(data)
    kept = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    if kept != data:
        raise ValueError(f"{kind.__name__} does not keep {data!r}: it made {kept!r}")
    return model
