"""Checkpoints as other libraries write them: read so that encode and decode equal theirs to 1e-5, or refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from coders.theirs import D, K, M, N, assert_equal, filled, from_path, inputs
from torch import Tensor

from nlsim.coders import files
from nlsim.coders.config import CoderConfig
from nlsim.coders.load import load_coder
from nlsim.errors import DataError

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
