"""How alike two sets of decoder directions are, whichever latent is paired with which."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from nlsim.metrics.arrays import FloatArray, IntArray


class Alignment(NamedTuple):
    """The best one-to-one pairing of rows and columns."""

    row_K: IntArray
    column_K: IntArray
    similarity_K: FloatArray
    """Similarity of each pair; K is the smaller of the two sets."""

    @property
    def mean(self) -> float:
        """Mean similarity of the pairs; NaN for an empty set."""
        return float(self.similarity_K.mean()) if self.similarity_K.size else float("nan")


def hungarian(similarity_AB: npt.ArrayLike) -> Alignment:
    """Pair rows with columns so that the summed similarity is largest (Kuhn 1955)."""
    matrix_AB = np.asarray(similarity_AB, dtype=np.float64)
    row_K, column_K = linear_sum_assignment(matrix_AB, maximize=True)
    return Alignment(row_K.astype(np.int64), column_K.astype(np.int64), matrix_AB[row_K, column_K])


def cosine_similarity(first_AD: npt.ArrayLike, second_BD: npt.ArrayLike) -> FloatArray:
    """Cosines [A, B] of the rows, in float64: decoder rows need not have unit norm. A zero row has cosine 0 with
    all."""
    unit = [_unit_rows(np.asarray(rows, dtype=np.float64)) for rows in (first_AD, second_BD)]
    return np.asarray(unit[0] @ unit[1].T)


def _unit_rows(rows_ND: FloatArray) -> FloatArray:
    norm_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    return np.divide(rows_ND, norm_N1, out=np.zeros_like(rows_ND), where=norm_N1 > 0)
