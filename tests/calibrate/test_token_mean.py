"""The table of mean codes by token."""

import numpy as np
import pytest

from nlsim.calibrate.token_mean import PRIORS, Entries, TokenTable, build_token_table


def made(
    seed: int = 0, count: int = 6000, latents: int = 20, vocabulary: int = 50
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, their codes (sparse, depending on the token) and each token's true mean code."""
    generator = np.random.default_rng(seed)
    mean = generator.exponential(1, (vocabulary, latents)) * (generator.random((vocabulary, latents)) < 0.1)
    token = generator.choice(vocabulary, count, p=generator.dirichlet(np.full(vocabulary, 0.5)))
    code = mean[token] * (generator.random((count, latents)) < 0.5) * 2
    return token, code, mean


def table_of(token: np.ndarray, code: np.ndarray, wanted: np.ndarray) -> TokenTable:
    blocks = []
    for part in np.array_split(np.arange(len(token)), 4):
        line, latent = np.nonzero(code[part])
        blocks.append(Entries(token[part][line], latent, code[part][line, latent]))
    return build_token_table(wanted, blocks, token, code.mean(0))


def test_it_is_the_mean_code_of_each_token() -> None:
    token, code, _ = made()
    values = table_of(token, code, np.arange(50)).values(np.array([3, 7]))
    for value, name in zip(values, (3, 7), strict=True):
        if (token == name).any():
            np.testing.assert_allclose(value, code[token == name].mean(0), rtol=1e-4)


def test_shrinkage_and_tokens_never_seen() -> None:
    token, code, _ = made()
    table = table_of(token, code, np.array([3, 99]))._replace(prior=10.0)
    count = (token == 3).sum()
    expected = (code[token == 3].sum(0) + 10 * code.mean(0)) / (count + 10)
    np.testing.assert_allclose(table.values(np.array([3]))[0], expected, rtol=1e-4)
    for unknown in (99, 12, 1000):
        np.testing.assert_allclose(table.values(np.array([unknown]))[0], code.mean(0), rtol=1e-6)


def test_the_prior_is_the_best_on_other_tokens() -> None:
    token, code, _ = made(count=800)
    other, truth = token[400:], code[400:]
    weight = np.linspace(1, 2, 20)
    table = table_of(token[:400], code[:400], np.arange(50)).fitted(other, truth, weight)

    def error(prior: float) -> float:
        return float((((table._replace(prior=prior).values(other) - truth) ** 2) @ weight).sum())

    assert error(table.prior) == pytest.approx(min(error(prior) for prior in PRIORS), rel=1e-5)
    assert 0 < table.prior < PRIORS[-1]


def test_it_is_stored_as_arrays() -> None:
    token, code, _ = made()
    table = table_of(token, code, np.arange(50))._replace(prior=2.0)
    again = TokenTable.from_arrays(table.to_arrays())
    np.testing.assert_array_equal(again.values(np.arange(50)), table.values(np.arange(50)))


def test_no_tokens_wanted() -> None:
    token, code, _ = made()
    assert table_of(token, code, np.zeros(0, int)).values(np.array([1]))[0] == pytest.approx(code.mean(0))
