"""Which kinds of explanations continuations are made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlsim.errors import UsageError

if TYPE_CHECKING:
    from nlsim.config import Config


def shown_kinds(config: Config) -> tuple[str, ...]:
    """The kinds of a run that `continuations.kinds` chooses. Raises UsageError for one that the run does not have."""
    known = (config.kind, *config.kinds)
    chosen = known if config.continuations.kinds is None else config.continuations.kinds
    if unknown := [kind for kind in chosen if kind not in known]:
        raise UsageError(f"continuations.kinds names {unknown[0]!r}", f"the run's kinds are {', '.join(known)}")
    return tuple(kind for kind in known if kind in chosen)
