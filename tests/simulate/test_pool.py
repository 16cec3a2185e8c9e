"""Sampled pairs: the active latents are all there, the others stand for the rest, answers are those of the whole."""

import numpy as np
from oracle import count_reads

from nlsim.latents.codes import RowCodes
from nlsim.lm.prompts import PromptTree, flatten
from nlsim.simulate.pool import draw_pool, only

LATENTS = np.arange(0, 60, 2)


def codes(active: list[list[int]], first: int = 100) -> RowCodes:
    indptr = np.cumsum([0, *map(len, active)])
    latent = np.array([latent for one in active for latent in one], np.int64)
    return RowCodes(first + np.arange(len(active)), indptr, latent, np.ones(len(latent), np.float32))


def test_active_latents_are_all_there_and_weights_speak_for_the_rest() -> None:
    active = [[4, 8, 33], [], [0, 2, 58]]
    pool = draw_pool(codes(active), LATENTS, 5, seed=3)
    for read, latents in enumerate(active):
        mine = pool.read_P == read
        found = pool.latent_P[mine]
        explained = set(latents) & set(LATENTS.tolist())  # 33 has no explanation
        assert explained <= set(found.tolist()) <= set(LATENTS.tolist())
        assert len(found) == len(set(found.tolist())) == len(explained) + 5
        silent = ~np.isin(found, latents)
        np.testing.assert_allclose(pool.weight_P[mine][silent].sum(), len(LATENTS) - len(explained), rtol=1e-6)
        assert (pool.weight_P[mine][~silent] == 1).all()


def test_a_draw_does_not_depend_on_which_other_tokens_are_read() -> None:
    both, second = codes([[4], [8]]), codes([[8]], first=101)
    whole, part = draw_pool(both, LATENTS, 5, 0), draw_pool(second, LATENTS, 5, 0)
    assert whole.latent_P[whole.read_P == 1].tolist() == part.latent_P.tolist()


def test_every_inactive_latent_is_as_likely_to_be_drawn() -> None:
    many = draw_pool(codes([[4]] * 3000), LATENTS, 5, 0)
    count = np.bincount(many.latent_P, minlength=60)[LATENTS]
    rest = np.delete(count, 2)
    expected = 3000 * 5 / (len(LATENTS) - 1)
    assert count[2] == 3000
    assert np.abs(rest - expected).max() < 5 * np.sqrt(expected)


def test_more_than_there_are_means_all() -> None:
    pool = draw_pool(codes([[4, 8]]), LATENTS, 10**6, 0)
    assert pool.latent_P.tolist() == LATENTS.tolist()
    assert (pool.weight_P == 1).all()
    none = draw_pool(codes([[4, 8]]), LATENTS, 0, 0)
    assert none.latent_P.tolist() == [4, 8]
    assert [none.of(latent) for latent in (4, 6, 8)] == [slice(0, 1), slice(1, 1), slice(1, 2)]


def test_a_trie_with_some_of_its_reads_asks_for_what_those_of_the_whole_are() -> None:
    nothing = np.empty(0, np.int64)
    leaves = tuple(PromptTree(np.arange(10 * i, 10 * i + 6), np.array([1, 3, 5])) for i in range(3))
    whole = PromptTree(np.array([90, 91]), nothing, leaves)
    prompts = [tokens[: at + 1] for tokens, reads in flatten(whole) for at in reads]
    chosen = np.array([1, 2, 6])
    some = only(whole, chosen)
    assert count_reads(some) == 3
    assert len(some.branches) == 2
    found = [tokens[: at + 1] for tokens, reads in flatten(some) for at in reads]
    for mine, number in zip(found, chosen, strict=True):
        np.testing.assert_array_equal(mine, prompts[number])
