"""Log-probabilities from hidden states: exact over the whole vocabulary, however large or equal the logits are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nlsim.lm.head import Head


def head(weight: torch.Tensor, bias: torch.Tensor | None = None, **config: Any) -> Head:
    output = SimpleNamespace(weight=weight, bias=bias)
    text = SimpleNamespace(**config)
    model = SimpleNamespace(get_output_embeddings=lambda: output, config=SimpleNamespace(get_text_config=lambda: text))
    return Head(model)


CHOICES = torch.tensor([7, 3, 3, 11])


@pytest.mark.parametrize("scale", [0.0, 1.0, 40.0, 4000.0])
@pytest.mark.parametrize("shift", [0.0, -300.0, 300.0])
def test_any_size_of_logits(scale: float, shift: float) -> None:
    """Logits far from 0 neither vanish nor overflow."""
    torch.manual_seed(0)
    hidden = torch.randn(150, 16)
    weight = torch.randn(5000, 16) * scale / 4
    bias = torch.full((5000,), shift)
    exact = (hidden.double() @ weight.double().T + bias).log_softmax(-1)[:, CHOICES]
    assert torch.allclose(head(weight, bias).choices(hidden, CHOICES).double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("distinct", [1, 3, 40])
def test_equal_rows_count_as_often_as_they_occur(distinct: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(70, 16)
    weight = torch.randn(distinct, 16)[torch.randint(distinct, (500,))]
    made = head(weight)
    assert len(made.weight_UD) <= distinct
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[:, CHOICES]
    assert torch.allclose(made.choices(hidden, CHOICES).double(), exact, atol=1e-5)
    far = head(weight * 1000).choices(hidden, CHOICES).double()
    assert torch.allclose(
        far, (hidden.double() @ (1000 * weight).double().T).log_softmax(-1)[:, CHOICES], rtol=1e-4, atol=0.05
    )


def test_half_precision_weights_are_multiplied_in_float32() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(70, 16).bfloat16(), torch.randn(500, 16).bfloat16()
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[:, CHOICES]
    assert torch.allclose(head(weight).choices(hidden, CHOICES).double(), exact, atol=1e-4)


def test_what_families_do_to_logits() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(70, 16), torch.randn(500, 16)
    logits = hidden.double() @ weight.double().T
    made = head(weight, final_logit_softcapping=3.0, logit_scale=0.5, logits_scaling=None).choices(hidden, CHOICES)
    assert torch.allclose(made.double(), (3 * torch.tanh(logits / 2 / 3)).log_softmax(-1)[:, CHOICES], atol=1e-5)
    made = head(weight, logits_scaling=8.0).choices(hidden, CHOICES)
    assert torch.allclose(made.double(), (logits / 8).log_softmax(-1)[:, CHOICES], atol=1e-5)


def test_nothing_to_read() -> None:
    assert head(torch.randn(50, 16)).choices(torch.empty(0, 16), CHOICES).shape == (0, 4)
