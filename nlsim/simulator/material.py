"""What the simulator learns from: latents of training coders on training documents, cut in two halves of documents.

A latent is explained from one half and predicted on the other, as in use: an explanation never saw the text it is
tested on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.pieces import Pieces
from nlsim.explain.lexical import Rule, Rules, describe, find_rules
from nlsim.explain.reading import Ints, Reading
from nlsim.simulator.text import SimulatorText, Window


class Activity(NamedTuple):
    """Where a latent fires on all rows of the material."""

    place_A: Ints
    """Ascending indices into the usable tokens (see `Texts.first_R`)."""
    strength_A: npt.NDArray[np.float32]
    """0 to 9, in ninths of the latent's scale."""


@dataclass(frozen=True)
class Texts:
    """Rows of training text, as the subject and as the simulator see them."""

    reading: Reading
    half_R: Ints
    """0 or 1 by document."""
    first_R: Ints
    """[R + 1] index of each row's first usable token."""
    windows: list[Window]

    @classmethod
    def of(
        cls,
        tokens_RT: npt.NDArray[np.integer],
        length_R: npt.NDArray[np.integer],
        document_R: npt.NDArray[np.integer],
        pieces: Sequence[bytes],
        text: SimulatorText,
        seed: int = 0,
    ) -> Texts:
        """Tokenize rows for the simulator and divide their documents at random."""
        reading = Reading.of(tokens_RT, length_R, document_R, pieces)
        documents, inverse = np.unique(document_R, return_inverse=True)
        half = np.random.default_rng(seed).permutation(len(documents)) % 2
        strings = Pieces(pieces).strings  # as in use, characters of several tokens included
        windows = [
            text.window(strings(row[1:length]))
            for row, length in zip(np.asarray(tokens_RT), np.asarray(length_R), strict=True)
        ]
        first = np.concatenate([[0], np.cumsum(np.asarray(length_R, np.int64) - 1)])
        return cls(reading, half[inverse], first, windows)

    @cached_property
    def by_length(self) -> list[Ints]:
        """The rows of each half, those with the fewest tokens of the simulator first."""
        length = np.array([len(window.tokens) for window in self.windows])
        order = np.argsort(length, kind="stable")
        return [order[self.half_R[order] == half] for half in (0, 1)]

    def part(self, half: int) -> tuple[Reading, npt.NDArray[np.bool_]]:
        """The reading of one half's rows, and which usable tokens they are."""
        kept_P = self.half_R[self.reading.row_P] == half
        return self.reading.select(kept_P), kept_P


class Example(NamedTuple):
    """A latent explained from one half, to be predicted on the other."""

    activity: Activity
    rules: Rules
    half: int
    """The half it is predicted on."""


def examples_of(texts: Texts, latents: Sequence[Activity], budget: int = 32, least: int = 8) -> Iterator[Example]:
    """Explain every latent from each half; those active at fewer than `least` tokens of a half are left out there."""
    for half in (0, 1):
        reading, kept_P = texts.part(half)
        new_P = np.cumsum(kept_P) - 1
        for activity in latents:
            inside_A = kept_P[activity.place_A]
            if inside_A.sum() >= least:
                place = new_P[activity.place_A[inside_A]]
                yield Example(
                    activity, find_rules(reading, place, activity.strength_A[inside_A], 9.0, budget), 1 - half
                )


def varied(rules: Rules, rng: np.random.Generator) -> Rules:
    """The same rules with some left out, so that the simulator learns to do with less than it could be told."""
    tokens = rules.tokens[: max(3, int(len(rules.tokens) * rng.choice([1.0, 1.0, 0.75, 0.5, 0.25])))]
    drop = rng.choice([0.0, 0.0, 0.1, 0.3])
    kept = [rule for rule in tokens if rng.random() >= drop] or tokens[:1]

    def some(words: list[int]) -> list[int]:
        return words[: int(rng.integers(len(words) + 1))] if rng.random() < 0.4 else words

    return rules._replace(
        tokens=kept,
        others=merged(rules.others, [rule for rule in rules.tokens if rule not in set(kept)]),
        after_more=some(rules.after_more),
        after_less=some(rules.after_less),
        near_more=some(rules.near_more),
        near_less=some(rules.near_less),
    )


def merged(others: Rule, dropped: list[Rule]) -> Rule:
    """What holds of the unnamed tokens when some named ones join them."""
    rules = [others, *dropped]
    count = sum(rule.occurrences for rule in rules)
    firing = sum(rule.occurrences * rule.frequency for rule in rules)
    mass = sum(rule.occurrences * rule.mean for rule in rules)
    return Rule(-1, firing / count, mass / firing if firing else others.strength, 0.0, count)


_PLAIN = (
    "The latent fires on {}.",
    "Tokens such as {}.",
    "Words like {} and similar.",
    "This feature is active on {}.",
    "{}",
    "Active at the tokens {} and related words.",
)


def wording(rules: Rules, reading: Reading, rng: np.random.Generator) -> str:
    """An explanation of the rules: usually the lexical explainer's own words, sometimes looser ones as people write."""
    if rng.random() < 0.85:
        return describe(rules, reading)
    from nlsim.explain.quote import quote

    driving = [rule for rule in rules.tokens if rule.mean > rules.others.mean][: int(rng.integers(3, 13))]
    listed = ", ".join(quote(reading.text(rule.token)) for rule in driving)
    text = str(rng.choice(_PLAIN)).format(listed)
    if rules.near_more and rng.random() < 0.5:
        text += f" In texts about {', '.join(quote(reading.text(word)) for word in rules.near_more[:4])}."
    return text


def synthetic(reading: Reading, count: int, rng: np.random.Generator) -> list[Activity]:
    """Latents that fire on random sets of tokens with random frequency and strength: practice in reading tables."""
    seen = np.flatnonzero(reading.count_V)
    weight = np.sqrt(reading.count_V[seen])
    made = []
    for _ in range(count):
        size = int(rng.integers(4, 80))
        chosen = rng.choice(seen, min(size, len(seen)), replace=False, p=weight / weight.sum())
        frequency_V, strength_V = np.zeros(len(reading.pieces)), np.zeros(len(reading.pieces))
        frequency_V[chosen] = rng.beta(1.5, 1.0, len(chosen))
        strength_V[chosen] = rng.uniform(1, 9, len(chosen))
        place = np.flatnonzero(rng.random(len(reading.token_P)) < frequency_V[reading.token_P])
        strength = np.clip(strength_V[reading.token_P[place]] + rng.normal(0, 0.7, len(place)), 0.25, 9)
        if len(place) >= 16:
            made.append(Activity(place, strength.astype(np.float32)))
    return made
