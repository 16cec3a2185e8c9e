"""Row-major codes to latent-major entries, against scipy and by properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from nlsim.latents import csc
from nlsim.latents.arrays import cuts, ranges


def codes(seed: int, tokens: int, k: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random codes: distinct latents per token, some absent."""
    rng = np.random.default_rng(seed)
    latent = np.argsort(rng.random((tokens, width)), axis=1)[:, :k].astype(np.uint16)
    value = rng.gamma(2.0, 1.0, (tokens, k)).astype(np.float16)
    value[rng.random((tokens, k)) < 0.3] = 0
    return latent, value


def transposed(latent: np.ndarray, value: np.ndarray, token: np.ndarray, low: int, high: int) -> tuple[np.ndarray, ...]:
    keys = csc.keys_of(latent, value, token[:, None], low, high)
    keys.sort()
    return csc.starts_of(keys, high - low), *csc.read_entries(csc.entries_of(keys))


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 8), st.integers(8, 40), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_agrees_with_scipy(seed: int, tokens: int, k: int, width: int, shards: int) -> None:
    latent, value = codes(seed, tokens, k, width)
    token = np.sort(np.random.default_rng(seed).choice(2**32 - 1, tokens, replace=False))
    indptr = np.arange(tokens + 1) * k
    truth = sparse.csr_array(
        (value.astype(np.float32).ravel(), latent.ravel().astype(np.int64), indptr), (tokens, width)
    )
    truth.eliminate_zeros()
    truth = truth.tocsc()
    truth.sort_indices()
    bounds = cuts(width, shards)
    for low, high in itertools.pairwise(bounds):
        starts, found_token, found_value = transposed(latent, value, token, int(low), int(high))
        expected = truth[:, low:high]
        np.testing.assert_array_equal(starts, expected.indptr)
        np.testing.assert_array_equal(found_token, token[expected.indices])
        np.testing.assert_array_equal(found_value, expected.data)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_there_and_back(seed: int) -> None:
    """Row-major → latent-major → row-major loses nothing."""
    latent, value = codes(seed, 40, 5, 30)
    starts, token, back_value = transposed(latent, value, np.arange(40), 0, 30)
    dense = np.zeros((40, 30), np.float32)
    dense[token, np.repeat(np.arange(30), np.diff(starts))] = back_value
    truth = np.zeros((40, 30), np.float32)
    np.put_along_axis(truth, latent.astype(np.int64), value.astype(np.float32), axis=1)
    np.testing.assert_array_equal(dense, truth)


def test_an_entry_is_six_bytes_and_holds_the_extremes() -> None:
    assert csc.ENTRY.itemsize == 6
    latent = np.array([[0], [csc.MOST_LATENTS - 1]], np.uint32)
    value = np.array([[6e-8], [65504]], np.float16)
    starts, token, back = transposed(latent, value, np.array([0, csc.MOST_TOKENS - 1]), 0, csc.MOST_LATENTS)
    np.testing.assert_array_equal(token, [0, csc.MOST_TOKENS - 1])
    np.testing.assert_array_equal(back, value[:, 0].astype(np.float32))
    assert starts[1] == 1
    assert starts[-2:].tolist() == [1, 2]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 20))
def test_parts_cover_all_latents_once_within_the_limit(count: list[int], most: int) -> None:
    found = list(csc.parts(np.array(count, np.int64), most))
    assert [latent for a, b in found for latent in range(a, b)] == list(range(len(count)))
    assert all(sum(count[a:b]) <= most or b - a == 1 for a, b in found)


def test_parts_never_hold_more_latents_than_a_key_can_name() -> None:
    sizes = [b - a for a, b in csc.parts(np.zeros(150_000, np.int64), 10)]
    assert sum(sizes) == 150_000
    assert max(sizes) <= csc.MOST_LATENTS


@pytest.mark.parametrize(("total", "shards"), [(10, 3), (2, 5), (0, 2), (7, 7)])
def test_cuts_are_even(total: int, shards: int) -> None:
    sizes = np.diff(cuts(total, shards))
    assert sizes.sum() == total
    assert sizes.max() - sizes.min() <= 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6))))
def test_ranges(pairs: list[tuple[int, int]]) -> None:
    start, count = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    assert ranges(start, count).tolist() == [a + i for a, n in pairs for i in range(n)]
