"""The best that a table without any explanation does: E[code | current token].

A token's mean code over the tokens' other occurrences, shrunk towards the overall mean code:

    (sum of codes at the token + prior · overall mean) / (occurrences + prior)
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Int = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

PRIORS = np.concatenate([[0.0], 2.0 ** np.arange(-4, 13)])


class TokenTable(NamedTuple):
    """Summed codes by token, as a sparse matrix."""

    token_U: Int
    """Vocabulary numbers, ascending."""
    count_U: Int
    """Occurrences in the rows it was made from."""
    indptr: Int
    latent: Int
    total: npt.NDArray[np.float32]
    """Summed activations in row form: token u has latents latent[indptr[u]:indptr[u + 1]] (columns of `mean_L`)."""
    mean_L: Float64
    """Overall mean activation."""
    prior: float
    """Strength of the overall mean, in tokens."""

    def values(self, token_N: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """[N, latents] mean codes of tokens; a token that never occurred has the overall mean."""
        return self._shrunk(token_N, self.prior)

    def fitted(
        self, token_N: npt.NDArray[np.integer], truth_NL: npt.NDArray[np.floating], weight_L: Float64
    ) -> "TokenTable":
        """The same table with the prior of `PRIORS` that leaves the least squared error at other tokens, each latent's
        error weighted by `weight_L`."""
        own_NL = self._shrunk(token_N, 0.0) - self.mean_L
        gap_NL = truth_NL - self.mean_L
        # the error of mean + a · own is quadratic in the shrinkage a = n / (n + prior), token by token
        cross_N = np.asarray((gap_NL * own_NL) @ weight_L)
        square_N = np.asarray(own_NL**2 @ weight_L)
        count_N = self._counts(token_N)
        share_PN = count_N / np.maximum(count_N + PRIORS[:, None], 1e-12)
        error_P = (share_PN**2 * square_N - 2 * share_PN * cross_N).sum(1)
        return self._replace(prior=float(PRIORS[int(np.argmin(error_P))]))

    def _shrunk(self, token_N: npt.NDArray[np.integer], prior: float) -> npt.NDArray[np.float32]:
        place_N, known_N = self._places(token_N)
        shape = (len(self.token_U), len(self.mean_L))
        matrix = sparse.csr_array((self.total, self.latent, self.indptr), shape=shape)
        total_NL = matrix[place_N].toarray() if len(self.token_U) else np.zeros((len(token_N), shape[1]))
        count_N1 = self._counts(token_N)[:, None]
        seen_N1 = known_N[:, None] & (count_N1 > 0)
        result_NL = (total_NL + prior * self.mean_L) / np.maximum(count_N1 + prior, 1e-12)
        return np.where(seen_N1, result_NL, self.mean_L).astype(np.float32)

    def _counts(self, token_N: npt.NDArray[np.integer]) -> Float64:
        place_N, known_N = self._places(token_N)
        count_U = self.count_U if len(self.count_U) else np.zeros(1)
        return np.where(known_N, count_U[place_N], 0).astype(np.float64)

    def _places(self, token_N: npt.NDArray[np.integer]) -> tuple[Int, npt.NDArray[np.bool_]]:
        place_N = np.minimum(np.searchsorted(self.token_U, token_N), max(len(self.token_U) - 1, 0))
        known_N = self.token_U[place_N] == token_N if len(self.token_U) else np.zeros(len(token_N), bool)
        return place_N, known_N

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The table as named arrays."""
        return {**self._asdict(), "prior": np.array([self.prior])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[np.generic]]) -> "TokenTable":
        """The table stored by `to_arrays`."""
        fields = {name: np.asarray(arrays[name]) for name in cls._fields if name != "prior"}
        return cls(**fields, prior=float(arrays["prior"][0]))


class Entries(NamedTuple):
    """Some activations: vocabulary number of the token, latent (column), value; one entry each."""

    token: Int
    latent: Int
    value: npt.NDArray[np.floating]


def build_token_table(
    wanted: npt.NDArray[np.integer], blocks: Iterable[Entries], occurrences: npt.NDArray[np.integer], mean_L: Float64
) -> TokenTable:
    """Sum activations by token, for the tokens `wanted`. `occurrences` are the vocabulary numbers of all tokens that
    the blocks cover, active or not. The prior is 0 until `fitted`."""
    token_U = np.unique(np.asarray(wanted, dtype=np.int64))
    shape = (len(token_U), len(mean_L))
    total = sparse.csr_array(shape, dtype=np.float32)
    for block in blocks:
        place = np.minimum(np.searchsorted(token_U, block.token), max(len(token_U) - 1, 0))
        kept = token_U[place] == block.token if len(token_U) else np.zeros(len(block.token), bool)
        entries = (block.value[kept].astype(np.float32), (place[kept], block.latent[kept]))
        total = total + sparse.coo_array(entries, shape=shape).tocsr()
    found, count = np.unique(occurrences, return_counts=True)
    count_U = np.zeros(len(token_U), dtype=np.int64)
    at = np.minimum(np.searchsorted(found, token_U), max(len(found) - 1, 0))
    if len(found):
        count_U[:] = np.where(found[at] == token_U, count[at], 0)
    total.sort_indices()
    return TokenTable(
        token_U, count_U, total.indptr.astype(np.int64), total.indices.astype(np.int64), total.data, mean_L, 0.0
    )
