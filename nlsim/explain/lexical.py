"""The explainer that counts: which tokens, neighbours and context words drive a latent, said in English. No language
model.

An explanation is a table in words, short enough for a small language model and readable for people:

    Fires seldom at strength 3. Always 7: “ return”, “ returns”. Often 4: “ yield”. Never: “ the”, “ of”.
    Other tokens: hardly 2. More after: “ to”. Less after: “.”. More near: “ class”.

A group is headed by how often its tokens fire (see `FREQUENCIES`) and how strongly when they do, 1 to 9 in ninths of
the latent's scale. Tokens are chosen by the squared error that naming them saves when activations are predicted from
the table, with counts shrunk towards the latent's base rate so that chance coincidences save little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split
from nlsim.explain.explainer import Explanation
from nlsim.explain.quote import quote
from nlsim.explain.reading import Reading

if TYPE_CHECKING:
    from nlsim.explain.explainer import Evidence

FREQUENCIES: tuple[tuple[float, str], ...] = (
    (0.004, "never"),
    (0.015, "hardly"),
    (0.04, "rarely"),
    (0.09, "seldom"),
    (0.2, "sometimes"),
    (0.4, "often"),
    (0.65, "commonly"),
    (0.88, "mostly"),
    (1.01, "always"),
)
"""Upper ends of the shares of tokens that each word stands for."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Rule(NamedTuple):
    """A token, or all tokens that no rule names, and what the latent does there."""

    token: int
    frequency: float
    """Part of the token's occurrences at which the latent fires, shrunk."""
    strength: float
    """Mean activation where it fires, in ninths of the scale, shrunk."""
    weight: float
    """Squared error that the rule saves."""
    occurrences: float
    """Occurrences it speaks of."""

    @property
    def mean(self) -> float:
        """Expected strength, silent occurrences included."""
        return self.frequency * self.strength


class Rules(NamedTuple):
    """Everything an explanation says of one latent."""

    base: Rule
    """All tokens."""
    tokens: list[Rule]
    """Named tokens, the most telling first."""
    others: Rule
    """Tokens that are not named."""
    after_more: list[int]
    """Tokens after which it fires more than the token table expects; the lists below alike."""
    after_less: list[int]
    near_more: list[int]
    near_less: list[int]
    start: float
    """Ratio of activity to expectation at the first two tokens of a text."""


def find_rules(
    reading: Reading, place_A: Ints, value_A: npt.NDArray[np.floating], scale: float, budget: int = 32
) -> Rules:
    """What drives a latent that is active at `place_A` (indices into the reading) with activations `value_A`.

    `scale` is the activation written as strength 9. At most `budget` tokens are named.
    """
    strength_A = np.clip(9.0 * np.asarray(value_A, np.float64) / scale, 0.25, 9.0)
    token_A = reading.token_P[place_A]
    total = len(reading.token_P)
    fires, mass = len(place_A) / total, float(strength_A.sum()) / total
    typical = mass / fires
    vocabulary = len(reading.pieces)
    active_V = np.bincount(token_A, minlength=vocabulary).astype(np.float64)
    sum_V = np.bincount(token_A, strength_A, minlength=vocabulary)
    count_V = reading.count_V
    seen = np.flatnonzero(count_V)
    # Shrunk with the weight of one token towards the base rate, of one firing towards the typical strength.
    frequency_S = (active_V[seen] + fires) / (count_V[seen] + 1)
    strength_S = (sum_V[seen] + typical) / (active_V[seen] + 1)
    mean_S = frequency_S * strength_S

    chosen = np.zeros(0, np.int64)
    rest = mass
    for _ in range(2):  # what remains for the unnamed tokens depends on the named ones
        weight_S = count_V[seen] * (mean_S - rest) ** 2
        chosen = np.argsort(-weight_S, kind="stable")[:budget]
        left = np.ones(len(seen), np.bool_)
        left[chosen] = False
        rest_count = max(float(count_V[seen][left].sum()), 1.0)
        rest = float(sum_V[seen][left].sum()) / rest_count
    rest_active = float(active_V[seen][left].sum())
    named = zip(seen[chosen], frequency_S[chosen], strength_S[chosen], weight_S[chosen], strict=True)
    rules = [
        Rule(int(token), float(frequency), float(strength), float(weight), float(count_V[token]))
        for token, frequency, strength, weight in named
        if weight > 0
    ]
    others_strength = rest * rest_count / rest_active if rest_active else typical
    others = Rule(-1, rest_active / rest_count, others_strength, 0.0, rest_count)

    expected_V = np.full(vocabulary, rest)
    expected_V[seen[chosen]] = mean_S[chosen]
    residual_P = -expected_V[reading.token_P]
    residual_P[place_A] += strength_A
    variance = float(residual_P @ residual_P) / total
    previous_sum_V = np.asarray(np.bincount(reading.previous_P, residual_P, vocabulary), np.float64)
    near_place, near_word = reading.near
    near_sum_V = np.asarray(np.bincount(near_word, residual_P[near_place], vocabulary), np.float64)
    # Neighbouring places of one document are alike, so a context word must stand out more than a neighbour.
    after_more, after_less = _standing_out(previous_sum_V, reading.previous_count_V, variance, doubt=2.0, most=8)
    near_more, near_less = _standing_out(near_sum_V, reading.near_count_V, variance, doubt=6.0, most=8)
    early = reading.position_P <= 2
    observed = float(strength_A[early[place_A]].sum())
    expected = observed - float(residual_P[early].sum())
    start = observed / expected if expected > 0 else 1.0
    return Rules(
        Rule(-1, fires, typical, 0.0, float(total)),
        rules,
        others,
        after_more,
        after_less,
        near_more,
        near_less,
        start,
    )


def _standing_out(
    sum_V: Floats, count_V: Floats, variance: float, doubt: float, most: int
) -> tuple[list[int], list[int]]:
    """Words at which residuals add up to more (and to less) than chance, the most telling first.

    Chance: a sum of n residuals has variance n·`variance`·`doubt`; only sums beyond three deviations count. What naming
    a word saves is sum² / (count + shrinkage).
    """
    candidates = np.flatnonzero((count_V >= 4) & (sum_V**2 > 9 * doubt * variance * count_V))
    saved = sum_V[candidates] ** 2 / (count_V[candidates] + 4 * doubt)
    order = candidates[np.argsort(-saved, kind="stable")]
    more, less = order[sum_V[order] > 0], order[sum_V[order] < 0]
    return [int(word) for word in more[:most]], [int(word) for word in less[: most // 2]]


def frequency_word(frequency: float) -> str:
    """The word for a share of tokens."""
    return next(word for end, word in FREQUENCIES if frequency < end)


def _level(strength: float) -> int:
    return int(np.clip(round(strength), 1, 9))


def groups(rules: list[Rule], ratio: float = 1.8) -> Iterator[tuple[str, list[Rule]]]:
    """Rules in groups of like expected strength, strongest first, each with its heading (`Often 4`, `Never`)."""
    floor = 0.02
    key = {rule: round(np.log(max(rule.mean, floor) / floor) / np.log(ratio)) for rule in rules}
    for level in sorted(set(key.values()), reverse=True):
        members = sorted((rule for rule in rules if key[rule] == level), key=lambda rule: -rule.weight)
        weight = np.array([max(rule.weight, 1e-9) for rule in members])
        frequency = float(np.average([rule.frequency for rule in members], weights=weight))
        strength = float(np.average([rule.strength for rule in members], weights=weight * frequency + 1e-9))
        word = frequency_word(frequency).capitalize()
        yield word if word == "Never" else f"{word} {_level(strength)}", members


def describe(rules: Rules, reading: Reading) -> str:
    """The rules in English."""

    def words(tokens: list[int]) -> str:
        return ", ".join(quote(reading.text(token)) for token in tokens)

    parts = [f"Fires {frequency_word(rules.base.frequency)} at strength {_level(rules.base.strength)}."]
    if rules.start > 2:
        parts.append("More at the start.")
    elif rules.start < 0.4:
        parts.append("Less at the start.")
    for heading, members in groups(rules.tokens):
        parts.append(f"{heading}: {words([rule.token for rule in members])}.")
    if rules.others.frequency < FREQUENCIES[0][0]:
        parts.append("Other tokens: never.")
    else:
        parts.append(f"Other tokens: {frequency_word(rules.others.frequency)} {_level(rules.others.strength)}.")
    for label, tokens in (
        ("More after", rules.after_more),
        ("Less after", rules.after_less),
        ("More near", rules.near_more),
        ("Less near", rules.near_less),
    ):
        if tokens:
            parts.append(f"{label}: {words(tokens)}.")
    return " ".join(parts)


class LexicalExplainer:
    """Explains by counting over the whole explain split."""

    model = ""
    facts: Mapping[str, str] = MappingProxyType({})

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.settings = evidence.config.explain

    def explain(self, latents: Sequence[int]) -> Iterator[Explanation]:
        """Latents that are active at too few tokens get no text."""
        reading, index = self.evidence.reading, self.evidence.index
        for latent in latents:
            active = index.activations(latent, Split.EXPLAIN)
            scale = float(index.table.robust_max_M[latent])
            if len(active.token) < self.settings.min_tokens or scale <= 0:
                yield Explanation(latent, "", "few")
                continue
            place_A = np.searchsorted(reading.at_P, active.token)
            yield Explanation(
                latent, describe(find_rules(reading, place_A, active.value, scale, self.settings.budget), reading)
            )
