"""Models are loaded whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from subject.architectures import CONFIGS, make_model
from transformers import logging

from nlsim.errors import DataError
from nlsim.subject.locate import Location
from nlsim.subject.pretrained import load_pretrained


def load(folder: Path) -> Any:
    return load_pretrained("model", Location(str(folder), None, local=True), dtype=torch.float32)


def configure(folder: Path, **settings: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_model("pythia").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_is_the_files(tmp_path: Path, name: str) -> None:
    make_model(name).save_pretrained(tmp_path)
    original = make_model(name).state_dict()
    loaded = load(tmp_path).state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(value, original[name]) for name, value in loaded.items())


def test_weights_that_are_missing_are_not_drawn_at_random(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    left_out = "gpt_neox.layers.2.mlp.dense_h_to_4h.weight"
    save_file({name: value for name, value in weights.items() if name != left_out}, path, {"format": "pt"})
    before = logging.get_verbosity()
    with pytest.raises(DataError, match=rf"lacks weights that its config.json asks for \({left_out}\)"):
        load(folder)
    assert logging.get_verbosity() == before


def test_weights_of_another_shape(folder: Path) -> None:
    configure(folder, intermediate_size=32)
    with pytest.raises(DataError, match=r"of shape \(.*64.*\) where its config.json asks for \(.*32"):
        load(folder)


def test_want_of_memory_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(MemoryError):
        load(folder)


def test_layers_that_are_missing(folder: Path) -> None:
    configure(folder, num_hidden_layers=6)
    with pytest.raises(DataError, match=r"lacks weights .* \(gpt_neox.layers.4.* and \d+ more\)"):
        load(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 10**9},
        {"vocab_size": 10**12},
        {"intermediate_size": 10**10},
        {"hidden_size": 10**6, "num_attention_heads": 1},
    ],
)
def test_a_configuration_far_larger_than_the_weights_takes_no_memory(folder: Path, settings: dict[str, int]) -> None:
    configure(folder, **settings)
    with pytest.raises(DataError, match="too few for"):
        load(folder)


@pytest.mark.parametrize("name", ["qwen2_sliding", "gemma2", "gpt2"])
def test_lists_of_very_many_layers_are_not_even_made(tmp_path: Path, name: str) -> None:
    make_model(name).save_pretrained(tmp_path)
    configure(tmp_path, **{"n_layer" if name == "gpt2" else "num_hidden_layers": 10**9})
    with pytest.raises(DataError, match="too few for"):
        load(tmp_path)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="weights of 0 bytes, too few"):
        load(folder)
