"""Explainers, scorers and language-model engines from other packages, found by their entry points (docs/plugins.md)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from nlsim.base import PLUGIN
from nlsim.errors import UsageError

Group = Literal["nlsim.explainers", "nlsim.scorers", "nlsim.backends"]


def is_plugin(name: str) -> bool:
    """Whether a configured name means something from another package."""
    return name.startswith(PLUGIN)


def load_plugin(group: Group, name: str) -> Callable[..., Any]:
    """What the entry point of `plugin:NAME` points to.

    Raises UsageError when no installed package offers it, or when it cannot be imported.
    """
    point = _entry(group, name)
    try:
        loaded: Callable[..., Any] = point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{name} ({point.value}) cannot be imported: {error}", "install its package again") from error
    return loaded


def plugin_identity(group: Group, name: str) -> dict[str, str]:
    """Package and version of a plugin: a part of what determines a stage's output. Nothing for what nlsim brings."""
    if not is_plugin(name):
        return {}
    package = _entry(group, name).dist
    return {name: f"{package.name} {package.version}" if package is not None else "unknown"}


def installed(group: Group) -> list[str]:
    """Names that installed packages offer."""
    return sorted({point.name for point in entry_points(group=group)})


def _entry(group: Group, name: str) -> EntryPoint:
    found = [point for point in entry_points(group=group) if point.name == name.removeprefix(PLUGIN)]
    if not found:
        offered = ", ".join(PLUGIN + other for other in installed(group)) or "none"
        raise UsageError(f"no installed package offers {name} ({group})", f"there are: {offered}")
    return found[0]
