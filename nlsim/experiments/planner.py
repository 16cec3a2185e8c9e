"""What a run takes under every engine on every kind of hardware: the table of `nlsim plan --compare`."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from nlsim.pipeline.plan import HARDWARE, Hardware, plan_config

if TYPE_CHECKING:
    from nlsim.config import Config

BLOCK = 16
"""Tokens of a block of vLLM's prefix cache: a prefix is reused in whole blocks."""


class Engine(NamedTuple):
    """A way to answer prompts."""

    name: str
    share: float
    """Of the hardware's sustained rate, which is that of the packed engine."""
    shares: str
    """Which part of a prompt it computes once for many prompts."""


ENGINES = (
    # Packed batches keep 80 % of a GPU's matrix rate busy; vLLM's prefills 65 to 75 %, plain batches 60 to 68 %.
    Engine("packed", 1.0, "everything that prompts share"),
    Engine("vllm", 0.85, "shared beginnings, in blocks of 16 tokens"),
    Engine("transformers", 0.8, "nothing: every prompt alone"),
)


class Choice(NamedTuple):
    """A run under one engine on one device."""

    engine: str
    hardware: str
    hours: float
    """Of model forwards on one device."""
    price: float | None
    """At the given price per hour; None without one."""


class Comparison(NamedTuple):
    """All choices, and what does not depend on them."""

    choices: tuple[Choice, ...]
    storage: int
    """Bytes that the run writes."""
    predictions: int
    endpoint: float
    """What an endpoint charges, at `lm.prices`."""


class Prompts(NamedTuple):
    """Sizes of a stage's prompts, tokens."""

    latents: int
    texts: int
    """Prompts per latent."""
    instructions: float
    """The same before every prompt."""
    explanation: float
    """The same for all prompts of a latent."""
    own: float
    """A prompt's own."""

    def tokens(self, engine: str) -> float:
        """Tokens that an engine puts through the model."""
        each, all_texts = self.explanation + self.own, self.latents * self.texts
        if engine == "packed":
            return self.instructions + self.latents * (self.explanation + self.texts * self.own)
        if engine == "transformers":
            return all_texts * (self.instructions + each)
        # the part of the last block of what is shared that is not a whole one is computed again for every prompt
        again = (self.instructions + self.explanation) % BLOCK
        return self.instructions + self.latents * self.explanation + all_texts * (again + self.own)


def compare_engines(config: Config, prices: Mapping[str, float] | None = None) -> Comparison:
    """Hours and price of a configuration's model forwards. `prices`: dollars per hour by name of hardware, in place of
    typical ones. Nothing outside the configuration is looked at."""
    rows = plan_config(config)
    shared = prompts_of(config)
    choices = []
    for engine in ENGINES:
        flops = 0.0
        for row in rows:
            prompts = shared.get(row.name)
            more = prompts.tokens(engine.name) / prompts.tokens("packed") if prompts is not None else 1.0
            flops += row.estimate.flops * max(more, 1.0)
        for hardware in HARDWARE:
            hours = flops / (hardware.flops_per_s * engine.share) / 3600
            hourly = _hourly(hardware, prices or {})
            choices.append(Choice(engine.name, hardware.name, hours, None if hourly is None else hours * hourly))
    return Comparison(
        tuple(choices),
        sum(row.estimate.bytes for row in rows),
        sum(row.estimate.predictions for row in rows),
        sum(row.estimate.price for row in rows),
    )


def prompts_of(config: Config) -> dict[str, Prompts]:
    """The prompts of the stages in which they share much, by stage."""
    from nlsim.explain.stage import latents_at_most
    from nlsim.score.stage import INSTRUCTION_TOKENS as SCORE_INSTRUCTIONS
    from nlsim.score.stage import TOKENS_PER_QUESTION
    from nlsim.simulate.stage import INSTRUCTION_TOKENS, PROMPT_TOKENS, SUBTOKENS, TAIL_TOKENS

    settings, latents = config.simulate, latents_at_most(config)
    rows = settings.calibration_rows + settings.evaluation_rows
    text = (settings.window or config.corpus.context - 2) * SUBTOKENS + TAIL_TOKENS
    asked = config.score.examples + config.score.others
    own = config.score.batch * TOKENS_PER_QUESTION
    return {
        "simulate": Prompts(latents, rows, INSTRUCTION_TOKENS, PROMPT_TOKENS, text),
        "score": Prompts(latents, ceil(asked / config.score.batch), SCORE_INSTRUCTIONS, PROMPT_TOKENS, own),
    }


def _hourly(hardware: Hardware, prices: Mapping[str, float]) -> float | None:
    return prices.get(hardware.name, hardware.dollars_per_hour)
