"""Coder files: round trips, other people's formats against their own code, names, bad input."""

import json

import pytest
import torch
from coders.dense import random_coder
from safetensors.torch import save_file

from nlsim.coders import load
from nlsim.coders.config import CoderConfig
from nlsim.coders.file import read, write_coder
from nlsim.coders.load import coder_identity, coder_meta, load_coder
from nlsim.coders.sparse import SparseCoder
from nlsim.errors import DataError, UsageError


def from_path(path, hookpoint=None):
    return load_coder(CoderConfig(path=str(path), hookpoint=hookpoint))


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "relu", "jumprelu", "groupmax"])
def test_file_round_trip(tmp_path, activation):
    coder = random_coder(activation, skip=True, d_out=4)
    write_coder(coder, tmp_path / "a.safetensors")
    back = from_path(tmp_path / "a.safetensors")
    assert back.meta == coder.meta == coder_meta(CoderConfig(path=str(tmp_path / "a.safetensors")))
    assert back.tensors.keys() == coder.tensors.keys()
    assert all(torch.equal(back.tensors[name], tensor) for name, tensor in coder.tensors.items())
    write_coder(back, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_half_precision_file_is_half_the_size_and_rounds_weights_only(tmp_path):
    coder = random_coder(width=400)
    write_coder(coder, tmp_path / "full.safetensors", "f32")
    write_coder(coder, tmp_path / "half.safetensors", "f16")
    assert (tmp_path / "half.safetensors").stat().st_size < 0.55 * (tmp_path / "full.safetensors").stat().st_size
    back = from_path(tmp_path / "half.safetensors")
    assert torch.equal(back.decoder_MD, coder.decoder_MD.half().float())
    assert back.encode(torch.randn(2, 6)).value_NK.dtype == torch.float32


def test_weights_beyond_half_precision_are_refused(tmp_path):
    coder = random_coder()
    coder.tensors["decoder_MO"] = coder.tensors["decoder_MO"] * 1e6
    with pytest.raises(DataError, match="does not fit into f16"):
        write_coder(coder, tmp_path / "a.safetensors", "f16")


def test_hookpoint_can_be_overridden(tmp_path):
    write_coder(random_coder(), tmp_path / "a.safetensors")
    assert from_path(tmp_path / "a.safetensors", "layers.3.mlp").meta.hookpoint == "layers.3.mlp"


def test_identity_follows_the_content(tmp_path):
    write_coder(random_coder(seed=0), tmp_path / "a.safetensors")
    write_coder(random_coder(seed=0), tmp_path / "b.safetensors")
    write_coder(random_coder(seed=1), tmp_path / "c.safetensors")
    a, b, c = (coder_identity(CoderConfig(path=str(tmp_path / f"{x}.safetensors"))) for x in "abc")
    assert a == b != c


def test_missing_and_damaged_files_are_data_errors(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(DataError, match="no coder at"):
        from_path(path)
    write_coder(random_coder(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a readable safetensors file"):
        from_path(path)
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="no coder of a known format"):
        from_path(tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="is not an nlsim coder file"):
        read(tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no coder of a known format"):
        from_path(tmp_path / "empty")
    meta = {"nlsim.coder": json.dumps({"kind": "sae", "hookpoint": "x", "d_in": 0})}
    save_file({"weight": torch.zeros(3)}, tmp_path / "wrong.safetensors", meta)
    with pytest.raises(DataError, match=r"metadata of .* are wrong at d_in"):
        from_path(tmp_path / "wrong.safetensors")


def test_unknown_names_are_usage_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "SHIPPED", tmp_path)
    write_coder(random_coder(), tmp_path / "mine.safetensors")
    with pytest.raises(UsageError, match="no coder is shipped as nlsim:yours: shipped: nlsim:mine"):
        from_path("nlsim:yours")
    assert from_path("nlsim:mine").meta.width == 40
    with pytest.raises(UsageError, match="names no repository"):
        from_path("hub:owner")
    with pytest.raises(UsageError, match="names no SAE"):
        from_path("saelens:release")


@pytest.mark.parametrize(("transcode", "skip"), [(False, False), (True, False), (True, True)])
def test_sparsify_folders(tmp_path, transcode, skip):
    """sparsify's layout and formula: an SAE subtracts b_dec from its input, a transcoder does not."""
    folder = tmp_path / "layers.6.mlp"
    folder.mkdir()
    width, d, k = 24, 5, 3
    config = {"activation": "topk", "expansion_factor": 32, "num_latents": width, "k": k, "d_in": d}
    (folder / "cfg.json").write_text(json.dumps({**config, "transcode": transcode, "skip_connection": skip}))
    tensors = {"encoder.weight": torch.randn(width, d), "encoder.bias": torch.randn(width)}
    tensors |= {"W_dec": torch.randn(width, d), "b_dec": torch.randn(d)}
    if skip:
        tensors["W_skip"] = torch.randn(d, d)
    save_file(tensors, folder / "sae.safetensors")
    x_ND = torch.randn(11, d)
    shifted_ND = x_ND if transcode else x_ND - tensors["b_dec"]
    acts_NM = torch.relu(shifted_ND @ tensors["encoder.weight"].T + tensors["encoder.bias"])
    value_NK, index_NK = acts_NM.topk(k)
    y_ND = torch.zeros_like(acts_NM).scatter(1, index_NK, value_NK) @ tensors["W_dec"] + tensors["b_dec"]
    if skip:
        y_ND = y_ND + x_ND @ tensors["W_skip"].mT
    for coder in (from_path(folder), from_path(tmp_path, "layers.6.mlp")):
        assert (coder.meta.hookpoint, coder.meta.kind) == ("layers.6.mlp", "transcoder" if transcode else "sae")
        codes = coder.encode(x_ND)
        torch.testing.assert_close(codes.value_NK, value_NK)
        torch.testing.assert_close(coder.decode(codes, x_ND), y_ND)
    folder.rename(tmp_path / "mine")
    with pytest.raises(UsageError, match="does not say where it belongs"):
        from_path(tmp_path / "mine")
    (tmp_path / "mine" / "cfg.json").write_text(json.dumps({**config, "activation": "softmax"}))
    with pytest.raises(DataError, match="activation that nlsim does not read"):
        from_path(tmp_path / "mine")


def test_moving_a_coder_keeps_its_weights():
    coder = random_coder()
    moved = coder.to("cpu")
    assert isinstance(moved, SparseCoder)
    assert torch.equal(moved.decoder_MD, coder.decoder_MD)
