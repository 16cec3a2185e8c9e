"""Checkpoints as other libraries write them: read so that encode and decode equal theirs to 1e-5, or refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nlsim.coders import files
from nlsim.coders.config import CoderConfig
from nlsim.coders.load import coder_meta, load_coder
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError, UsageError

D, M, N, K = 6, 32, 50, 4


def from_path(path: Path, hookpoint: str | None = "layers.0") -> SparseCoder:
    config = CoderConfig(path=str(path), hookpoint=hookpoint)
    coder = load_coder(config)
    assert coder_meta(config) == coder.meta
    return coder


def inputs(seed: int = 0) -> Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(seed)) * 2 + 0.5


def filled(module: nn.Module, seed: int = 0) -> Any:
    """The module with random weights, thresholds positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
            if name == "threshold":
                parameter.abs_()
    return module


def assert_equal(coder: SparseCoder, x_ND: Tensor, acts_NM: Tensor, y_NO: Tensor) -> None:
    """Both ways to decode, and encode, agree with another library's numbers."""
    codes = coder.encode(x_ND)
    z_NM = torch.zeros(len(x_ND), coder.meta.width).scatter_add(1, codes.index_NK, codes.value_NK)
    torch.testing.assert_close(z_NM, acts_NM, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(coder.decode(codes, x_ND), y_NO, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(coder.decode_dense(z_NM, x_ND), y_NO, atol=1e-5, rtol=1e-5)


# sparsify


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"multi_topk": True},
        {"activation": "groupmax"},
        {"transcode": True},
        {"transcode": True, "skip_connection": True},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_sparsify(tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSIFY_DISABLE_TRITON", "1")  # its kernels need a GPU
    sparsify = pytest.importorskip("sparsify")
    theirs = filled(sparsify.SparseCoder(D, sparsify.SparseCoderConfig(num_latents=M, k=K, **options)))
    theirs.save_to_disk(tmp_path / "layers.1.mlp")
    coder = from_path(tmp_path / "layers.1.mlp", None)
    assert coder.meta.hookpoint == "layers.1.mlp"
    x_ND = inputs()
    with torch.no_grad():
        acts_NK, index_NK, _ = theirs.encode(x_ND)
        y_ND = theirs.decode(acts_NK, index_NK)
        if theirs.W_skip is not None:
            y_ND = y_ND + x_ND @ theirs.W_skip.mT
    assert_equal(coder, x_ND, torch.zeros(N, M).scatter_add(1, index_NK, acts_NK), y_ND)


# SAELens


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


# dictionary_learning


def state(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name.replace("__", "."): torch.randn(shape, generator=generator) for name, shape in shapes.items()}


LINEAR = {"encoder__weight": (M, D), "encoder__bias": (M,), "decoder__weight": (D, M)}


def saved(folder: Path, weights: dict[str, Any], **trainer: Any) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"layer": 3, "lm_name": "x/y", **trainer}}))
    return folder


def dictionary(name: str) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Weights of one of the library's classes, and what its encode and decode give for `inputs()`."""
    x_ND = inputs()
    if name == "AutoEncoder":
        w = state(**LINEAR, bias=(D,))
        acts_NM = torch.relu((x_ND - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"])
        return w, acts_NM, acts_NM @ w["decoder.weight"].T + w["bias"]
    if name == "AutoEncoderNew":
        w = state(**LINEAR, decoder__bias=(D,))
        acts_NM = torch.relu(x_ND @ w["encoder.weight"].T + w["encoder.bias"])
        return w, acts_NM, acts_NM @ w["decoder.weight"].T + w["decoder.bias"]
    if name == "GatedAutoEncoder":
        w = state(
            encoder__weight=(M, D), decoder__weight=(D, M), decoder_bias=(D,), r_mag=(M,), gate_bias=(M,), mag_bias=(M,)
        )
        pre_NM = (x_ND - w["decoder_bias"]) @ w["encoder.weight"].T
        acts_NM = (pre_NM + w["gate_bias"] > 0) * torch.relu(w["r_mag"].exp() * pre_NM + w["mag_bias"])
        return w, acts_NM * w["decoder.weight"].norm(dim=0), acts_NM @ w["decoder.weight"].T + w["decoder_bias"]
    if name == "JumpReluAutoEncoder":
        w = state(W_enc=(D, M), b_enc=(M,), W_dec=(M, D), b_dec=(D,), threshold=(M,))
        pre_NM = x_ND @ w["W_enc"] + w["b_enc"]
        acts_NM = torch.relu(pre_NM * (pre_NM > w["threshold"]))
        return w, acts_NM * w["W_dec"].norm(dim=1), acts_NM @ w["W_dec"] + w["b_dec"]
    extra = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.9)}
    if name == "MatryoshkaBatchTopKSAE":
        w = {**state(W_enc=(D, M), b_enc=(M,), W_dec=(M, D), b_dec=(D,)), **extra, "group_sizes": torch.tensor([8, 24])}
        acts_NM = torch.relu((x_ND - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
        acts_NM = acts_NM * (acts_NM > 0.9)
        return w, acts_NM, acts_NM @ w["W_dec"] + w["b_dec"]
    w = {**state(**LINEAR, b_dec=(D,)), **extra}
    acts_NM = torch.relu((x_ND - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"])
    if name == "BatchTopKSAE":
        acts_NM = acts_NM * (acts_NM > 0.9)
    else:
        values, places = acts_NM.topk(K)
        acts_NM = torch.zeros_like(acts_NM).scatter(1, places, values)
    return w, acts_NM, acts_NM @ w["decoder.weight"].T + w["b_dec"]


@pytest.mark.parametrize(
    "name",
    [
        "AutoEncoder",
        "AutoEncoderNew",
        "GatedAutoEncoder",
        "JumpReluAutoEncoder",
        "AutoEncoderTopK",
        "BatchTopKSAE",
        "MatryoshkaBatchTopKSAE",
    ],
)
def test_dictionary_learning(tmp_path: Path, name: str) -> None:
    weights, acts_NM, y_ND = dictionary(name)
    folder = saved(tmp_path / "a", weights, dict_class=name, submodule_name="resid_post_layer_3")
    coder = from_path(folder, None)
    assert (coder.meta.hookpoint, coder.meta.subject) == ("blocks.3.hook_resid_post", "x/y")
    assert_equal(coder, inputs(), acts_NM, y_ND)


def test_dictionary_learning_coders_that_would_be_wrong_are_refused(tmp_path: Path) -> None:
    weights, _, _ = dictionary("BatchTopKSAE")
    with pytest.raises(DataError, match="may be a TopK or a BatchTopK coder"):
        from_path(saved(tmp_path / "a", weights))
    with pytest.raises(DataError, match="would depend on the batch"):
        from_path(saved(tmp_path / "b", {**weights, "threshold": torch.tensor(-1.0)}, dict_class="BatchTopKSAE"))
    crosscoder = {"encoder.weight": torch.zeros(2, D, M), "encoder.bias": torch.zeros(M)}
    with pytest.raises(DataError, match="is no coder that nlsim knows"):
        from_path(saved(tmp_path / "c", crosscoder))


class Sneaky:
    """Unpickling it would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("pwned",))


def test_pickled_code_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(tmp_path / "a", {"bias": Sneaky()})
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"bias": Sneaky()}, protocol=2))
    for path in (folder, tmp_path / "plain.pt"):
        with pytest.raises(DataError, match="holds more than weights: reading it could run code"):
            from_path(path)
    assert "pwned" not in capsys.readouterr().out


# OpenAI


@pytest.mark.parametrize("topk", [True, False])
def test_openai(tmp_path: Path, topk: bool) -> None:
    w: dict[str, Any] = state(pre_bias=(D,), encoder__weight=(M, D), latent_bias=(M,), decoder__weight=(D, M))
    x_ND = inputs()
    mean_N1, std_N1 = x_ND.mean(1, keepdim=True), x_ND.std(1, keepdim=True)
    read_ND = (x_ND - mean_N1) / (std_N1 + 1e-5) if topk else x_ND
    acts_NM = torch.relu((read_ND - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"])
    if topk:
        values, places = acts_NM.topk(K)
        acts_NM = torch.zeros_like(acts_NM).scatter(1, places, values)
    y_ND = acts_NM @ w["decoder.weight"].T + w["pre_bias"]
    stored = {**w, "stats_last_nonzero": torch.zeros(M, dtype=torch.long), "activation": "TopK" if topk else "ReLU"}
    stored["activation_state_dict"] = {"k": K, "postact_fn": "ReLU"} if topk else {}
    torch.save(stored, tmp_path / "12.pt")
    assert_equal(from_path(tmp_path / "12.pt"), x_ND, acts_NM, y_ND * std_N1 + mean_N1 if topk else y_ND)
    torch.save({**stored, "activation": "Identity"}, tmp_path / "13.pt")
    with pytest.raises(DataError, match="has the activation Identity"):
        from_path(tmp_path / "13.pt")
    torch.save({"activation": "ReLU"}, tmp_path / "14.pt")
    with pytest.raises(DataError, match=r"has no decoder.weight, .*: it is no autoencoder of OpenAI's form"):
        from_path(tmp_path / "14.pt")


# Any of them


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    weights, _, _ = dictionary("AutoEncoder")
    file = saved(tmp_path / "a", weights) / "ae.pt"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="is damaged or was not downloaded whole"):
        from_path(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sae.safetensors.incomplete").touch()
    with pytest.raises(DataError, match=r"sae.safetensors.incomplete was not downloaded whole: fetch it again"):
        from_path(tmp_path / "b")


def test_a_file_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "a", dictionary("AutoEncoder")[0])
    monkeypatch.setattr(files.os, "sysconf", lambda name: 1 if name == "SC_AVPHYS_PAGES" else 1024)
    with pytest.raises(DataError, match=r"needs at least 0.0 GB of memory, 0.0 GB are free"):
        from_path(folder)


@pytest.mark.parametrize(
    ("error", "todo"),
    [
        ("401 Client Error: gated repo", "accept its licence on huggingface.co, then set HF_TOKEN"),
        ("Repository Not Found", "check the name"),
        ("Max retries exceeded", "prints the commands that download it elsewhere"),
    ],
)
def test_downloads_that_fail_say_what_to_do(error: str, todo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> str:
        raise OSError(error)

    monkeypatch.setattr("huggingface_hub.snapshot_download", failing)
    with pytest.raises(DataError, match=f"cannot get the coder owner/name from the Hugging Face hub .*: .*{todo}"):
        load_coder(CoderConfig(path="hub:owner/name"))
