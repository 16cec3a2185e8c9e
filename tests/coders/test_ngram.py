"""The n-gram baseline is a probability distribution, and Kneser-Ney by its definition."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from nlsim.coders.ngram import KneserNey

V = 5  # BOS is token 0


def rows(count: int, length: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    tokens_RT = generator.choice(V, (count, length), p=[0.05, 0.5, 0.25, 0.15, 0.05]).astype(np.int32)
    tokens_RT[:, 0] = 0
    length_R = generator.integers(2, length + 1, count).astype(np.int32)
    tokens_RT[np.arange(length) >= length_R[:, None]] = 0
    return tokens_RT, length_R


def chance(train, order: int, history: tuple[int, ...], token: int) -> float:
    """Interpolated Kneser-Ney, written out with dictionaries."""
    tokens_RT, length_R = train
    grams = Counter()
    for row, length in zip(tokens_RT.tolist(), length_R.tolist(), strict=True):
        padded = [0] * (order - 2) + row[:length]
        for end in range(order - 1, len(padded)):
            grams[tuple(padded[end - order + 1 : end + 1])] += 1
    levels = {order: grams}
    for n in range(order - 1, 0, -1):
        kinds = defaultdict(set)
        for gram in levels[n + 1]:
            kinds[gram[1:]].add(gram[0])
        levels[n] = Counter({gram: len(before) for gram, before in kinds.items()})

    def at(n: int, history: tuple[int, ...]) -> float:
        if n == 0:
            return 1 / V
        counts = levels[n]
        once, twice = (sum(c == times for c in counts.values()) for times in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.0
        follow = {gram: c for gram, c in counts.items() if gram[:-1] == history}
        lower = at(n - 1, history[1:])
        if not follow:
            return lower
        total = sum(follow.values())
        return max(counts[(*history, token)] - discount, 0) / total + discount * len(follow) / total * lower

    return at(order, history)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_losses_follow_the_definition(order):
    train, test = rows(12, 9), rows(4, 9, seed=1)
    found = iter(KneserNey(*train, V, order).losses(*test))
    for row, length in zip(test[0].tolist(), test[1].tolist(), strict=True):
        padded = [0] * (order - 2) + row
        for position in range(1, length):
            history = tuple(padded[position - 1 : position + order - 2])
            assert next(found) == pytest.approx(-math.log(chance(train, order, history, row[position])), rel=1e-9)
    assert next(found, None) is None


def test_chances_of_all_next_tokens_sum_to_one():
    model = KneserNey(*rows(12, 9), V, 3)
    for history in itertools.product(range(V), repeat=2):
        after = np.array([[0, *history, token] for token in range(V)], np.int32)
        last = model.losses(after, np.full(V, 4, np.int32)).reshape(V, 3)[:, -1]
        assert np.exp(-last).sum() == pytest.approx(1)


def test_more_context_predicts_a_fixed_sequence_better():
    tokens_RT = np.tile(np.array([0, 1, 2, 1, 3, 1, 2, 1, 3], np.int32), (20, 1))
    length_R = np.full(20, 9, np.int32)
    bigram, trigram = (KneserNey(tokens_RT, length_R, V, order).losses(tokens_RT, length_R).mean() for order in (2, 3))
    assert trigram < bigram


def test_grams_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit into 63 bits"):
        KneserNey(*rows(2, 4), 100_000, 5)
