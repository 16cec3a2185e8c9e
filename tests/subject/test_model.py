"""Capture and carrying on, against transformers' own forward pass of each real architecture."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from subject.architectures import CONFIGS, LAYERS, VOCAB, make_model, make_subject
from torch import Tensor, nn
from transformers import PreTrainedModel

from nlsim.errors import DataError, UsageError
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject, pick_device
from nlsim.subject.taps import tensor_of

LENGTHS = torch.tensor([12, 7, 12])


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def subject(request: pytest.FixtureRequest) -> Subject:
    return make_subject(request.param)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, VOCAB, (3, 12), generator=torch.Generator().manual_seed(1))


def plain_logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits


@contextmanager
def block_calls(subject: Subject) -> Iterator[Counter[int]]:
    """Count how often each block's attention computes."""
    calls: Counter[int] = Counter()
    handles = [
        getattr(block, subject.layout.attention).register_forward_hook(lambda *_, layer=layer: calls.update([layer]))
        for layer, block in enumerate(subject.blocks)
    ]
    yield calls
    for handle in handles:
        handle.remove()


def test_capture_gives_the_models_own_hidden_states(subject: Subject, tokens: Tensor) -> None:
    with torch.no_grad():
        states = subject.model(input_ids=tokens, output_hidden_states=True, use_cache=False).hidden_states
    for layer in range(LAYERS):
        captured = subject.capture(tokens, LENGTHS, f"blocks.{layer}.hook_resid_post")
        assert torch.equal(captured.input_BTD, states[layer])
        if layer < LAYERS - 1:  # the library gives the last state after the final norm
            assert torch.equal(captured.output_BTD, states[layer + 1])
        assert torch.equal(subject.capture(tokens, LENGTHS, f"blocks.{layer}.hook_resid_pre").output_BTD, states[layer])


def test_capture_of_a_module_gives_what_enters_and_leaves_it(subject: Subject, tokens: Tensor) -> None:
    block = f"{subject.layout.stack}.2"
    for part in (subject.layout.mlp, subject.layout.attention):
        module = subject.decoder.get_submodule(f"{block}.{part}")
        seen: dict[str, Tensor] = {}

        def keep(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], out: object) -> None:
            seen["in"] = args[0] if args else kwargs["hidden_states"]  # noqa: B023
            seen["out"] = tensor_of(out)  # noqa: B023

        handle = module.register_forward_hook(keep, with_kwargs=True)
        plain_logits(subject.model, tokens)
        handle.remove()
        captured = subject.capture(tokens, LENGTHS, f"{block}.{part}")
        assert torch.equal(captured.input_BTD, seen["in"])
        assert torch.equal(captured.output_BTD, seen["out"])


@pytest.mark.parametrize("layer", range(LAYERS))
def test_capture_runs_no_block_after_the_hookpoint(subject: Subject, tokens: Tensor, layer: int) -> None:
    with block_calls(subject) as calls:
        subject.capture(tokens, LENGTHS, f"blocks.{layer}.hook_mlp_out")
    assert calls == Counter(range(layer + 1))


@pytest.mark.parametrize("layer", range(LAYERS))
def test_finishing_runs_no_block_before_the_hookpoint(subject: Subject, tokens: Tensor, layer: int) -> None:
    state = subject.start(tokens, LENGTHS, f"blocks.{layer}.hook_mlp_out")
    with block_calls(subject) as calls:
        subject.finish(state)
    assert calls == Counter(range(layer, LAYERS))


@pytest.mark.parametrize(
    "hook", ["hook_resid_pre", "hook_resid_post", "hook_mlp_out", "hook_attn_out", "mlp.hook_in", "mlp.hook_out"]
)
def test_the_untouched_activation_gives_the_clean_run_bit_for_bit(subject: Subject, tokens: Tensor, hook: str) -> None:
    """Also mistake 11: the patched run sees the whole row that the activations were taken from."""
    clean = plain_logits(subject.model, tokens)
    for layer in range(LAYERS):
        state = subject.start(tokens, LENGTHS, f"blocks.{layer}.{hook}")
        assert torch.equal(subject.finish(state), clean)
        assert torch.equal(subject.finish(state, state.captured.output_BTD.clone()), clean)


@pytest.mark.parametrize("hook", ["hook_resid_pre", "hook_resid_post", "hook_mlp_out", "hook_attn_out", "mlp.hook_in"])
def test_finishing_equals_the_model_with_the_activation_replaced(subject: Subject, tokens: Tensor, hook: str) -> None:
    """The oracle replaces the activation with a hook inside one whole forward pass."""
    state = subject.start(tokens, LENGTHS, f"blocks.2.{hook}")
    new = state.captured.output_BTD + torch.randn(
        state.captured.output_BTD.shape, generator=torch.Generator().manual_seed(2)
    )
    write = state.hookpoint.write
    module = subject.decoder.get_submodule(write.module)
    if write.side == "output":
        handle = module.register_forward_hook(lambda _, __, out: (new, *out[1:]) if isinstance(out, tuple) else new)
    else:
        handle = module.register_forward_pre_hook(
            lambda _, args, kwargs: ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new}),
            with_kwargs=True,
        )
    want = plain_logits(subject.model, tokens)
    handle.remove()
    got = subject.finish(state, new)
    assert torch.equal(got, want)
    assert not torch.allclose(got, plain_logits(subject.model, tokens), atol=1e-3)
    assert torch.equal(subject.finish(state), plain_logits(subject.model, tokens))  # nothing stays replaced


def test_a_patched_position_changes_nothing_before_it(subject: Subject, tokens: Tensor) -> None:
    state = subject.start(tokens, LENGTHS, "blocks.1.hook_mlp_out")
    new = state.captured.output_BTD.clone()
    new[:, 5] += torch.linspace(-3, 3, new.shape[-1])
    patched, clean = subject.finish(state, new), subject.finish(state)
    assert torch.equal(patched[:, :5], clean[:, :5])
    assert (patched[:, 5] - clean[:, 5]).abs().amax() > 1e-3


def test_several_conditions_at_once_equal_one_after_the_other(subject: Subject, tokens: Tensor) -> None:
    state = subject.start(tokens, LENGTHS, f"{subject.layout.stack}.1.{subject.layout.mlp}")
    clean = state.captured.output_BTD
    conditions = torch.stack([clean, torch.zeros_like(clean), clean.roll(1, 0), -clean])
    together = subject.finish_hidden(state, conditions)
    assert together.shape == (4, *clean.shape)
    for condition, hidden in zip(conditions, together, strict=True):
        torch.testing.assert_close(hidden, subject.finish_hidden(state, condition), atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing_before_it(subject: Subject, tokens: Tensor) -> None:
    """Mistake 26: rows are padded by length, never recognised by a padding token that also occurs in text."""
    other = tokens.clone()
    other[1, 7:] = 0
    for layer in (0, LAYERS - 1):
        a = subject.start(tokens, LENGTHS, f"blocks.{layer}.hook_mlp_out")
        b = subject.start(other, LENGTHS, f"blocks.{layer}.hook_mlp_out")
        assert torch.equal(a.captured.output_BTD[1, :7], b.captured.output_BTD[1, :7])
        assert torch.equal(subject.finish(a)[1, :7], subject.finish(b)[1, :7])
        alone = subject.start(tokens[1:2, :7], LENGTHS[1:2], f"blocks.{layer}.hook_mlp_out")
        torch.testing.assert_close(subject.finish(alone)[0], subject.finish(a)[1, :7], atol=1e-5, rtol=1e-5)
    assert a.valid_BT.sum(1).tolist() == LENGTHS.tolist()


def test_losses_equal_their_definitions(subject: Subject, tokens: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    state = subject.start(tokens, LENGTHS, "blocks.1.hook_resid_post")
    clean_BTD = subject.finish_hidden(state)
    patched_CBTD = subject.finish_hidden(state, torch.stack([state.captured.output_BTD * s for s in (1.0, 0.5, -1.0)]))
    mask = state.valid_BT[:, 1:]
    clean_PD, hidden_CPD = clean_BTD[:, :-1][mask], patched_CBTD[:, :, :-1][:, mask]
    target_P = tokens[:, 1:][mask]
    monkeypatch.setattr("nlsim.subject.model._LOGITS", VOCAB * 4)  # several chunks
    got = subject.losses(hidden_CPD, clean_PD, target_P, reverse=True)
    assert got.reverse_kl_CP is not None
    for c in range(3):
        p = subject.logits(clean_PD).double().log_softmax(-1)
        q = subject.logits(hidden_CPD[c]).double().log_softmax(-1)
        torch.testing.assert_close(
            got.ce_CP[c].double(), nn.functional.nll_loss(q, target_P, reduction="none"), atol=1e-5, rtol=1e-5
        )
        want = nn.functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
        torch.testing.assert_close(got.kl_CP[c].double(), want, atol=1e-5, rtol=1e-4)
        back = nn.functional.kl_div(p, q, log_target=True, reduction="none").sum(-1)
        torch.testing.assert_close(got.reverse_kl_CP[c].double(), back, atol=1e-5, rtol=1e-4)
        assert torch.equal(got.top1_CP[c], p.argmax(-1) == q.argmax(-1))
    assert got.kl_CP[0].max() < 1e-6
    assert bool(got.top1_CP[0].all())


def test_no_positions_have_no_losses() -> None:
    subject = make_subject("pythia")
    got = subject.losses(torch.zeros(3, 0, 32), torch.zeros(0, 32), torch.zeros(0, dtype=torch.int64))
    assert [part.shape for part in got[:3]] == [(3, 0)] * 3
    assert got.reverse_kl_CP is None


def test_a_module_that_never_runs_is_a_usage_error(tokens: Tensor) -> None:
    subject = make_subject("gpt2")
    subject.decoder.h[1].register_module("spare", nn.Linear(2, 2))
    with pytest.raises(UsageError, match=r"h.1.spare never runs in gpt2"):
        subject.start(tokens, LENGTHS, "h.1.spare")


def test_a_16_bit_model_has_float32_logits(tokens: Tensor) -> None:
    """Mistake 14: the head of a bfloat16 model is computed in float32, so logits are not on a coarse grid."""
    for name in ("llama3", "gemma2", "gpt2"):
        exact = make_model(name).to(torch.bfloat16).float()
        subject = Subject(make_model(name).to(torch.bfloat16), SubjectConfig(model=name, dtype="bfloat16"))
        state = subject.start(tokens, LENGTHS, "blocks.1.hook_mlp_out")
        hidden, logits = subject.finish_hidden(state), subject.finish(state)
        assert hidden.dtype == torch.bfloat16
        assert logits.dtype == torch.float32
        assert not torch.equal(logits, logits.bfloat16().float())
        head = exact.get_output_embeddings()(hidden.float())
        cap = getattr(exact.config, "final_logit_softcapping", None)
        torch.testing.assert_close(logits, torch.tanh(head / cap) * cap if cap else head, atol=1e-5, rtol=1e-5)
        assert subject.decoder.get_input_embeddings().weight.dtype == torch.bfloat16


def test_tokens_may_be_stored_arrays(tokens: Tensor) -> None:
    subject = make_subject("pythia")
    stored = tokens.numpy().astype(np.int32)
    stored.flags.writeable = False
    got = subject.capture(stored, LENGTHS.numpy().astype(np.int32), "layers.1.mlp")
    assert torch.equal(got.output_BTD, subject.capture(tokens, LENGTHS, "layers.1.mlp").output_BTD)


def test_tokens_of_another_tokenizer_are_a_data_error() -> None:
    with pytest.raises(DataError, match="token 97 is not among the 97 of pythia"):
        make_subject("pythia").capture(np.array([[1, VOCAB]]), np.array([2]), "layers.1.mlp")


def test_captured_activations_can_train_a_coder(tokens: Tensor) -> None:
    captured = make_subject("pythia").capture(tokens, LENGTHS, "layers.1.mlp")
    weight = torch.zeros(32, 32, requires_grad=True)
    ((captured.input_BTD @ weight - captured.output_BTD) ** 2).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no device is called gpu0"):
        pick_device("gpu0")
    with pytest.raises(UsageError, match="cuda:99"):
        pick_device("cuda:99")
    assert pick_device("cpu") == torch.device("cpu")


def test_a_damaged_model_folder_is_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model("pythia").save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"cannot load the model in .*/model \("):
        Subject.load(SubjectConfig(model=str(folder)))
