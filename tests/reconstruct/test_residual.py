"""Patching what an SAE rebuilds: the residual stream itself."""

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from nlsim.coders.coder import CoderMeta
from nlsim.coders.sparse import SparseCoder
from nlsim.reconstruct.conditions import Condition
from nlsim.reconstruct.patch import Batch, run_batch
from nlsim.subject.config import SubjectConfig
from nlsim.subject.model import Subject

D, LAYER = 16, 1


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("neox")
    shape = {"hidden_size": D, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=40, max_position_embeddings=32, **shape)).save_pretrained(folder)
    return Subject.load(SubjectConfig(model=str(folder), device="cpu"))


def both_signs(scale: float = 1.0) -> SparseCoder:
    """An SAE with a latent for each sign of each component: exact where `scale` is 1."""
    meta = CoderMeta(
        kind="sae", hookpoint=f"blocks.{LAYER}.hook_resid_post", d_in=D, d_out=D, width=2 * D, activation="topk", k=D
    )
    signs = torch.cat([torch.eye(D), -torch.eye(D)])
    tensors = {
        "encoder_MD": signs,
        "encoder_bias_M": torch.zeros(2 * D),
        "decoder_MO": scale * signs,
        "decoder_bias_O": torch.zeros(D),
    }
    return SparseCoder(meta, tensors)


def batch() -> Batch:
    tokens = np.random.default_rng(0).integers(1, 40, (3, 10))
    row, position = np.divmod(np.arange(3 * 8), 8)
    return Batch(tokens, np.full(3, 10), row, position + 1)


def test_an_sae_of_the_residual_stream_is_patched_like_a_transcoder(subject: Subject) -> None:
    """Mistake 17: of the patch of the residual stream that the paper speaks of there was no code."""
    conditions = [Condition("clean"), Condition("coder"), Condition("zero"), Condition("posterior")]
    latents = np.arange(2 * D)

    def values(condition: Condition, truth_NL: np.ndarray) -> np.ndarray:
        return np.zeros_like(truth_NL) if condition.values == "zero" else truth_NL

    clean, coder, zero, truth = run_batch(subject, both_signs(), batch(), latents, conditions, values, None)
    np.testing.assert_allclose(coder.ce_P, clean.ce_P, atol=1e-4)
    np.testing.assert_allclose(truth.ce_P, clean.ce_P, atol=1e-4)
    assert coder.kl_P.max() < 1e-5
    assert zero.kl_P.mean() > 10 * coder.kl_P.max()
    _, half, *_ = run_batch(subject, both_signs(0.5), batch(), latents, conditions, values, None)
    assert half.kl_P.mean() > 10 * coder.kl_P.max()


def test_the_stream_is_replaced_at_the_asked_positions_only(subject: Subject) -> None:
    """With the last position patched, everything before it is the clean run."""
    last = [Condition("clean", positions="last"), Condition("zero", positions="last")]
    clean, zero = run_batch(
        subject, both_signs(), batch(), np.arange(2 * D), last, lambda _, truth_NL: np.zeros_like(truth_NL), None
    )
    assert len(zero.position_P) == len(clean.position_P) == 3
    state = subject.start(batch().tokens_BT, batch().lengths_B, both_signs().meta.hookpoint)
    output = state.captured.output_BTD.clone()
    output[:, 8] = 0
    logits = subject.finish(state, output)[:, 8].log_softmax(-1)
    target = torch.from_numpy(batch().tokens_BT[:, 9])
    np.testing.assert_allclose(zero.ce_P, -logits.gather(1, target[:, None])[:, 0].numpy(), atol=1e-4)
