"""SAELens' coders: read so that encode and decode equal theirs to 1e-5, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from coders.theirs import D, K, M, assert_equal, filled, from_path, inputs

from nlsim.errors import DataError


def saelens(architecture: str, **options: Any) -> Any:
    pytest.importorskip("sae_lens")
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_class(architecture)
    metadata = SAEMetadata(hook_name="blocks.1.ln2.hook_normalized", hook_name_out="blocks.1.hook_mlp_out")
    return filled(sae_class(config_class(d_in=D, d_sae=M, metadata=metadata, **options)))


TRANSCODER = {"d_out": 7, "apply_b_dec_to_input": False}


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("standard", {}),
        ("standard", {"apply_b_dec_to_input": False}),
        ("standard", {"normalize_activations": "layer_norm"}),
        ("standard", {"normalize_activations": "constant_norm_rescale"}),
        ("gated", {}),
        ("gated", {"normalize_activations": "layer_norm", "apply_b_dec_to_input": False}),
        ("topk", {"k": K}),
        ("topk", {"k": K, "rescale_acts_by_decoder_norm": True}),
        ("topk", {"k": K, "normalize_activations": "layer_norm"}),
        ("jumprelu", {}),
        ("transcoder", TRANSCODER),
        ("skip_transcoder", TRANSCODER),
        ("jumprelu_transcoder", TRANSCODER),
        ("jumprelu_skip_transcoder", TRANSCODER),
    ],
)
def test_saelens(tmp_path: Path, architecture: str, options: dict[str, Any]) -> None:
    theirs = saelens(architecture, **options)
    theirs.save_model(tmp_path / "sae")
    coder = from_path(tmp_path / "sae", None)
    x_ND = inputs()
    with torch.no_grad():
        acts_NM, y_NO = theirs.encode(x_ND), theirs(x_ND)
    assert_equal(coder, x_ND, acts_NM, y_NO)
    arrow = "blocks.1.ln2.hook_normalized -> blocks.1.hook_mlp_out"
    assert coder.meta.hookpoint == (arrow if "transcoder" in architecture else "blocks.1.ln2.hook_normalized")


@pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty model_from_pretrained_kwargs")
@pytest.mark.parametrize("normalization", ["none", "layer_norm"])
def test_saelens_coders_of_models_with_centred_weights(tmp_path: Path, normalization: str) -> None:
    """gpt2-small-res-jb and its like: in the plain model the mean of every vector has to be taken off, and put back."""
    theirs = saelens("standard", normalize_activations=normalization)
    theirs.cfg.metadata.hook_name = "blocks.8.hook_resid_pre"
    theirs.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True, "fold_ln": True}
    theirs.save_model(tmp_path)
    x_ND = inputs()
    mean_N1 = x_ND.mean(1, keepdim=True)
    with torch.no_grad():
        acts_NM, y_ND = theirs.encode(x_ND - mean_N1), theirs(x_ND - mean_N1) + mean_N1
    assert_equal(from_path(tmp_path, None), x_ND, acts_NM, y_ND)
    theirs.cfg.metadata.model_from_pretrained_kwargs = {"fold_value_biases": True}
    theirs.save_model(tmp_path)
    with pytest.raises(DataError, match="was trained on a model changed by fold_value_biases"):
        from_path(tmp_path)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_trained_over_batches(tmp_path: Path, architecture: str) -> None:
    """What training stores for use is a JumpReLU coder with the threshold it found."""
    pytest.importorskip("sae_lens")
    from sae_lens import SAE
    from sae_lens.registry import get_sae_training_class

    sae_class, config_class = get_sae_training_class(architecture)
    options = {"matryoshka_widths": [8, M]} if "matryoshka" in architecture else {}
    training = filled(sae_class(config_class(d_in=D, d_sae=M, k=K, **options)))
    training.topk_threshold.fill_(0.8)
    training.save_inference_model(tmp_path / "sae")
    theirs = SAE.load_from_disk(tmp_path / "sae")
    x_ND = inputs()
    with torch.no_grad():
        acts_NM, y_ND = theirs.encode(x_ND), theirs(x_ND)
    assert 0 < int((acts_NM > 0).sum()) < acts_NM.numel() / 2
    assert_equal(from_path(tmp_path / "sae"), x_ND, acts_NM, y_ND)


def test_saelens_before_version_6(tmp_path: Path) -> None:
    """Old configurations name things otherwise and have no section of metadata."""
    theirs = saelens("standard")
    weights, settings = theirs.save_model(tmp_path)
    old = {
        "d_in": D,
        "d_sae": M,
        "hook_point": "blocks.3.hook_resid_pre",
        "activation_fn_str": "relu",
        "model_name": "x",
    }
    settings.write_text(json.dumps({**old, "dtype": "float32", "normalize_activations": False}))
    x_ND = inputs()
    with torch.no_grad():
        assert_equal(from_path(tmp_path, None), x_ND, theirs.encode(x_ND), theirs(x_ND))
    assert from_path(tmp_path, None).meta.hookpoint == "blocks.3.hook_resid_pre"
    settings.write_text(json.dumps({**old, "finetuning_scaling_factor": True}))
    with pytest.raises(DataError, match="scales its latents by factors found in finetuning"):
        from_path(tmp_path)
    assert weights.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "temporal"}, "has the architecture temporal: supported: standard"),
        ({"architecture": "standard", "normalize_activations": "expected_average_only_in"}, "by expected_average_only"),
        ({"architecture": "transcoder", "normalize_activations": "layer_norm"}, "normalises activations by layer_norm"),
        ({"architecture": "standard", "d_in": None}, "lacks d_in or d_sae"),
    ],
)
def test_saelens_coders_that_would_be_wrong_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    (tmp_path / "sae_weights.safetensors").touch()
    whole = {"d_in": 4, "d_sae": 8, "metadata": {}, **settings}
    (tmp_path / "cfg.json").write_text(json.dumps({key: value for key, value in whole.items() if value is not None}))
    with pytest.raises(DataError, match=message):
        from_path(tmp_path)
