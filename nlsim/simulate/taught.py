"""What an adapter was taught: the form of its prompts, and latents and documents it must not be asked about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nlsim.errors import UsageError
from nlsim.lm.adapter import read_card

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nlsim.lm.config import LmConfig
    from nlsim.simulate.config import SimulateConfig

TEMPLATE = ("prompt", "positions", "order", "shots", "show_score", "window")
"""Settings of `simulate` that decide what a prompt looks like."""


def template_of(settings: SimulateConfig, lm: LmConfig) -> dict[str, Any]:
    """What decides the form of a prompt, as plain JSON."""
    return {**{name: getattr(settings, name) for name in TEMPLATE}, "template": lm.template, "date": lm.date}


def check_adapter(
    lm: LmConfig, settings: SimulateConfig, coder: str, latents: Iterable[int], documents: Iterable[str]
) -> None:
    """Raise UsageError where an adapter would be asked what it was taught (latents of its coder, documents), or in
    another form of prompt than it knows. Adapters without a card are taken as they are."""
    card = read_card(lm.adapter)
    if card is None:
        return
    asked = template_of(settings, lm)
    if changed := sorted(name for name, value in card["template"].items() if asked.get(name) != value):
        raise UsageError(
            f"the adapter was taught with other prompts ({', '.join(changed)})",
            "use the settings of simulate and lm that it was trained with: " + json.dumps(card["template"]),
        )
    if card["coder"] == coder and (known := card["latents"] & set(latents)):
        raise UsageError(
            f"the adapter was taught {len(known)} of the latents asked about, as {min(known)}",
            "choose others: latents.part keeps two runs apart",
        )
    if seen := card["documents"] & set(documents):
        raise UsageError(
            f"the adapter was taught with {len(seen)} of the documents asked about, as {min(seen)}",
            "give both runs the same corpus.seed and corpus.fractions",
        )
