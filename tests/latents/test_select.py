"""Which latents are chosen, by number, at random, by weight or by name, above thresholds in rows."""

import numpy as np
import pytest
from pydantic import ValidationError

from nlsim.corpus.splits import Split
from nlsim.errors import DataError, UsageError
from nlsim.latents.config import LatentsConfig
from nlsim.latents.index import LatentTable
from nlsim.latents.select import select_latents


def table(width: int = 50) -> LatentTable:
    """Latent i is active at 10·i tokens of i rows in the explain split and of 50 - i rows in the score split."""
    number = np.arange(width)
    rows = np.zeros((width, len(Split)), np.int64)
    rows[:, Split.EXPLAIN], rows[:, Split.SCORE] = number, width - number
    return LatentTable(
        active_MS=10 * rows,
        rows_MS=rows,
        sum_MS=rows.astype(float),
        max_M=np.ones(width, np.float32),
        robust_max_M=np.ones(width, np.float32),
        decoder_norm_M=np.where(number == 5, 100, 1).astype(np.float32),
        usable_S=np.array([0, 500, 500, 0, 0]),
    )


def chosen(seed: int = 0, **fields: object) -> list[int]:
    config = LatentsConfig.model_validate({"min_explain_rows": 0, **fields})
    return [int(latent) for latent in select_latents(config, table(), seed)]


def test_choices() -> None:
    assert chosen() == list(range(50))
    assert chosen(choose="first", count=3) == [0, 1, 2]
    assert chosen(choose="listed", ids=[7, 3]) == [3, 7]
    assert chosen(choose="heaviest", count=3) == [5, 48, 49]  # 5: its decoder vector is the longest


def test_thresholds_count_rows() -> None:
    """Mistake 22: latent 5 is active at 50 tokens, but in 5 rows."""
    assert chosen(min_explain_rows=40, min_score_rows=5) == [40, 41, 42, 43, 44, 45]
    assert chosen(choose="first", count=2, min_explain_rows=40) == [40, 41]
    assert chosen(choose="listed", ids=[5], min_explain_rows=40) == [5]
    assert chosen(max_density=0.5) == list(range(50))
    with pytest.raises(DataError, match="none of the 50 latents"):
        chosen(max_density=0.4)


def test_parts_have_no_latent_in_common_and_miss_none() -> None:
    parts = [chosen(part=part, seed=seed) for seed, part in enumerate([(0.0, 0.3), (0.3, 0.8), (0.8, 1.0)])]
    assert sorted(latent for part in parts for latent in part) == list(range(50))
    assert all(parts)
    with pytest.raises(ValidationError, match="ascending"):
        chosen(part=(0.5, 0.5))


def test_a_larger_random_choice_only_adds() -> None:
    small, large = chosen(choose="random", count=10), chosen(choose="random", count=20)
    assert set(small) < set(large)
    assert small == chosen(choose="random", count=10)
    assert small != chosen(seed=1, choose="random", count=10)


def test_bad_choices() -> None:
    with pytest.raises(UsageError, match=r"latent 50.*has 50"):
        chosen(choose="listed", ids=[50])
    with pytest.raises(DataError, match=r"none of the 50 latents.*are 49"):
        chosen(min_explain_rows=60)
    for wrong in (
        {"choose": "first"},
        {"count": 3},
        {"ids": [1]},
        {"choose": "listed"},
        {"choose": "listed", "ids": [1, 1]},
    ):
        with pytest.raises(ValidationError):
            LatentsConfig.model_validate(wrong)
