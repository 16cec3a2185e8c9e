"""Gemma Scope and Llama Scope: read so that encode and decode equal what was published to 1e-5, or refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coders.theirs import D, M, assert_equal, from_path, inputs
from safetensors.torch import save_file
from torch import Tensor

from nlsim.coders.config import CoderConfig
from nlsim.coders.load import coder_identity
from nlsim.errors import DataError, UsageError

# Gemma Scope


def gemma_scope(folder: Path, **changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {"W_enc": rng.normal(size=(D, M)), "b_enc": rng.normal(size=M), "W_dec": rng.normal(size=(M, D))}
    arrays |= {"b_dec": rng.normal(size=D), "threshold": np.abs(rng.normal(size=M))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()} | changes
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: array for name, array in arrays.items() if array is not None})
    return arrays


@pytest.mark.parametrize(
    ("release", "kind", "hookpoint"),
    [
        ("gemma-scope-2b-pt-res", "sae", "blocks.12.hook_resid_post"),
        ("gemma-scope-9b-it-mlp", "sae", "blocks.12.hook_mlp_out"),
        ("gemma-scope-2b-pt-att", "sae", "blocks.12.attn.hook_z"),
        ("gemma-scope-2b-pt-transcoders", "transcoder", "blocks.12.ln2.hook_normalized -> blocks.12.hook_mlp_out"),
    ],
)
def test_gemma_scope(tmp_path: Path, release: str, kind: str, hookpoint: str) -> None:
    folder = tmp_path / f"models--google--{release}" / "layer_12" / "width_16k" / "average_l0_82"
    p = {name: torch.from_numpy(array) for name, array in gemma_scope(folder).items()}
    x_ND = inputs()
    pre_NM = x_ND @ p["W_enc"] + p["b_enc"]
    acts_NM = torch.relu(pre_NM) * (pre_NM > p["threshold"])
    for path in (folder, folder / "params.npz"):
        coder = from_path(path, None)
        assert (coder.meta.kind, coder.meta.hookpoint, coder.meta.width) == (kind, hookpoint, M)
        assert_equal(coder, x_ND, acts_NM, acts_NM @ p["W_dec"] + p["b_dec"])
    assert coder.meta.subject.startswith("google/gemma-2-")


def test_gemma_scope_files_that_are_not_whole(tmp_path: Path) -> None:
    gemma_scope(tmp_path / "a", threshold=None)
    with pytest.raises(DataError, match="has no threshold: it is no coder of Gemma Scope"):
        from_path(tmp_path / "a")
    gemma_scope(tmp_path / "b")
    file = tmp_path / "b" / "params.npz"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DataError, match="is damaged"):
        from_path(tmp_path / "b")
    gemma_scope(tmp_path / "c", W_enc=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="is damaged, or no archive of arrays"):
        from_path(tmp_path / "c")
    gemma_scope(tmp_path / "d", W_enc=np.zeros((D, M), np.int8))
    with pytest.raises(DataError, match="encoder_MD holds int8, not real numbers"):
        from_path(tmp_path / "d")
    gemma_scope(tmp_path / "e")
    with pytest.raises(UsageError, match="does not say where it belongs"):
        from_path(tmp_path / "e", None)


# Llama Scope

SCALES = {"in": 8.0, "out": 0.8}


def llama_scope(folder: Path, **changes: Any) -> dict[str, Tensor]:
    """A coder as published; its weights before their file's bfloat16."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"encoder.weight": (M, D), "encoder.bias": (M,), "decoder.weight": (D, M), "decoder.bias": (D,)}
    weights = {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in shapes.items()}
    (folder / "checkpoints").mkdir(parents=True)
    save_file(weights, folder / "checkpoints" / "final.safetensors")
    settings = {
        "hook_point_in": "blocks.16.ln2.hook_normalized",
        "hook_point_out": "blocks.16.hook_mlp_out",
        "use_decoder_bias": True,
        "apply_decoder_bias_to_pre_encoder": False,
        "d_model": D,
        "d_sae": M,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.5,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": SCALES,
        "sparsity_include_decoder_norm": True,
        "use_glu_encoder": False,
        **changes,
    }
    (folder / "hyperparams.json").write_text(json.dumps(settings))
    return {name: tensor.float() for name, tensor in weights.items()}


def test_llama_scope(tmp_path: Path) -> None:
    """Inputs are scaled to length √d, outputs scaled back; a latent is active where what it adds to the output is
    longer than the threshold, and that length is its activation."""
    folder = tmp_path / "Llama3_1-8B-Base-L16TC-8x"
    w = llama_scope(folder)
    coder = from_path(folder, None)
    assert coder.meta.kind == "transcoder"
    assert coder.meta.hookpoint == "blocks.16.ln2.hook_normalized -> blocks.16.hook_mlp_out"
    x_ND = inputs()
    hidden_NM = (x_ND * D**0.5 / SCALES["in"]) @ w["encoder.weight"].T + w["encoder.bias"]
    adds_MO = w["decoder.weight"].T * SCALES["out"] / D**0.5
    length_NM = hidden_NM * adds_MO.norm(dim=1)
    acts_NM = length_NM.where(length_NM > 0.5, 0)
    assert 0.1 < (acts_NM > 0).float().mean() < (hidden_NM > 0).float().mean()
    y_NO = hidden_NM.where(length_NM > 0.5, 0) @ adds_MO + w["decoder.bias"] * SCALES["out"] / D**0.5
    assert_equal(coder, x_ND, acts_NM, y_NO)
    llama_scope(tmp_path / "sae", hook_point_in="blocks.16.hook_mlp_out")
    assert from_path(tmp_path / "sae", None).meta.kind == "sae"


def test_llama_scope_identity_covers_the_weights(tmp_path: Path) -> None:
    llama_scope(tmp_path)
    before = coder_identity(CoderConfig(path=str(tmp_path)))
    file = tmp_path / "checkpoints" / "final.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    after = coder_identity(CoderConfig(path=str(tmp_path)))
    assert {name for name in before if before[name] != after[name]} == {"coder/final.safetensors"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "topk"}, "has act_fn: topk: nlsim reads coders with act_fn: jumprelu"),
        ({"norm_activation": "token-wise"}, "has norm_activation: token-wise"),
        ({"dataset_average_activation_norm": None}, "it is no configuration of Llama Scope"),
        ({"dataset_average_activation_norm": {"in": 0, "out": 1}}, "has average norms of"),
    ],
)
def test_llama_scope_coders_that_would_be_wrong_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    llama_scope(tmp_path, **change)
    with pytest.raises(DataError, match=message):
        from_path(tmp_path)
