"""Codes with latents left out, and what the lines of losses say: by hand."""

import numpy as np
import pytest
import torch

from nlsim.blog.config import BlogConfig
from nlsim.blog.limits import Keep, drawn, first_of_random, kept_conditions, kept_slots, planted_conditions
from nlsim.blog.losses import LossLines, help_rows, limit_rows
from nlsim.report.gather import Metrics
from nlsim.subject.model import Losses

VALUE_NK = torch.tensor([[5.0, 3.0, 2.0, 1.0], [4.0, 1.0, 0.0, 0.0]])


def kept(condition: Keep) -> list[list[bool]]:
    order_NK = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.7, 0.3, 0.0, 0.0]])
    found: list[list[bool]] = kept_slots(VALUE_NK, condition, order_NK).tolist()
    return found


def test_the_strongest_and_random_ones_are_kept_and_tokens_with_fewer_keep_all() -> None:
    assert kept(Keep("strongest", 2)) == [[True, True, False, False]] * 2
    assert kept(Keep("random", 2)) == [[False, True, False, True], [True, True, False, False]]
    assert kept(Keep("random", 9)) == [[True] * 4, [True, True, False, False]]
    assert kept(Keep("coder")) == [[True] * 4] * 2
    assert kept(Keep("zero")) == [[False] * 4] * 2


def test_random_choices_of_a_draw_are_nested_and_even() -> None:
    order_NK = drawn(np.arange(2000), 6, 0, 1)
    among = torch.ones(2000, 6, dtype=torch.bool)
    two, three = (first_of_random(among, torch.full((2000, 1), n), order_NK) for n in (2, 3))
    assert bool((two <= three).all())
    assert two.sum(1).unique().tolist() == [2]
    np.testing.assert_allclose(two.float().mean(0), 1 / 3, atol=0.04)


def test_a_token_s_draw_depends_on_nothing_but_its_position() -> None:
    """Mistake 36: no draw moves another."""
    torch.testing.assert_close(drawn(np.array([7, 9]), 5, 0, 1)[1], drawn(np.array([9]), 5, 0, 1)[0])
    torch.testing.assert_close(drawn(np.array([9]), 8, 0, 1)[0, :5], drawn(np.array([9]), 5, 0, 1)[0])
    assert not torch.equal(drawn(np.array([9]), 5, 0, 1), drawn(np.array([9]), 5, 0, 2))


def test_conditions_are_the_configured_ones() -> None:
    settings = BlogConfig(counts=(1, 3), random_draws=2, recalls=(0.5,), false_rates=(0.0, 0.1))
    assert [condition[:3] for condition in kept_conditions(settings)] == [
        ("clean", 0, 0), ("coder", 0, 0), ("zero", 0, 0),
        ("strongest", 1, 0), ("random", 1, 0), ("random", 1, 1),
        ("strongest", 3, 0), ("random", 3, 0), ("random", 3, 1),
    ]  # fmt: skip
    assert [condition[3:] for condition in planted_conditions(settings)] == [(0.5, 0.0), (0.5, 0.1)]


def losses(ce: list[float], kl: list[float], back: list[float] | None = None) -> Losses:
    return Losses(
        torch.tensor([ce]),
        torch.tensor([kl]),
        torch.ones(1, len(ce), dtype=torch.bool),
        None if back is None else torch.tensor([back]),
    )


def test_relative_error_is_of_sums_over_the_same_tokens() -> None:
    types = {"keep": "string", "latents": "int64", "draw": "int64", "recall": "double", "false_rate": "double"}
    lines = LossLines(types)
    row, document = np.array([3, 3, 8]), np.array([0, 0, 1])
    lines.add(losses([1, 3, 2], [0, 0, 0], [0, 0, 0]), Keep("clean")._asdict(), row, document)
    lines.add(losses([2, 4, 2], [1, 2, 6], [0, 0, 3]), Keep("random", 1, 0)._asdict(), row, document)
    lines.add(losses([2, 4, 4], [1, 2, 6], [0, 0, 3]), Keep("random", 1, 1)._asdict(), row, document)
    rows = Metrics(limit_rows(lines.table(), 100, 0.95))
    found = {
        name: rows.row(name, task="limits", keep="random", count=1)
        for name in ("kl", "kl_reverse", "ce", "ce_relative_error")
    }
    values = {name: row["value"] for name, row in found.items() if row is not None}
    assert values["kl"] == pytest.approx(3)
    assert values["kl_reverse"] == pytest.approx(1)
    assert values["ce"] == pytest.approx((2 + 4 + 3) / 3)
    assert values["ce_relative_error"] == pytest.approx((9 - 6) / 6)


def test_help_has_means_quartiles_and_paired_differences() -> None:
    """Mistake 28: quartiles are values, not distances from the median."""
    lines = LossLines({"kind": "string", "keep": "string"})
    at, document = np.arange(4), np.array([0, 0, 1, 1])
    lines.add(losses([1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]), {"kind": "", "keep": "coder"}, at, document)
    lines.add(losses([2, 1, 1, 1], [1, 2, 3, 4], [4, 4, 4, 4]), {"kind": "mine", "keep": "found"}, at, document)
    lines.add(losses([1, 1, 1, 1], [9, 9, 9, 9], [4, 4, 4, 4]), {"kind": "other", "keep": "found"}, at, document)
    rows = Metrics(help_rows(lines.table(), "mine", 100, 0.95))

    def value(name: str, kind: str | None = None) -> float:
        row = rows.row(name, kind, task="help", keep="found")
        assert row is not None
        return float(row["value"])

    assert value("kl") == 2.5
    assert [value(f"kl_{part}") for part in ("p25", "p50", "p75")] == [1.75, 2.5, 3.25]
    assert value("kl_reverse_p50") == 4
    assert value("ce_minus_coder") == 0.25
    assert value("kl", "other") == 9
