"""Training from text to folder, small: learned from training latents, chosen on others, judged on yet others."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nlsim.lm.config import LmConfig
from nlsim.lm.engine import load_engine
from nlsim.lm.simulator import CARD, is_simulator
from nlsim.simulator.config import TrainSimulatorConfig
from nlsim.simulator.train import train_simulator

SENTENCE = "the function returns a value of some class or raises an error when it is called with arguments"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainSimulatorConfig:
    folder = tmp_path_factory.mktemp("documents")
    rng = np.random.default_rng(0)
    words = np.array(SENTENCE.split())
    for number in range(40):
        text = " ".join(rng.choice(words, 400))
        (folder / f"{number}.txt").write_text(text)
    return TrainSimulatorConfig.model_validate(
        {
            "sources": [
                {
                    "subject": {"model": "nlsim:tiny"},
                    "coders": [{"path": "nlsim:tiny-sae"}],
                    "judged": [{"path": "nlsim:tiny-skip"}],
                    "neurons": ["layers.1.mlp.dense_4h_to_h"],
                    "neurons_each": 20,
                }
            ],
            "corpus": {
                "source": {"kind": "files", "paths": [f"{folder}/*.txt"]},
                "context": 32,
                "rows": {"train": 60, "explain": 60, "score": 12, "calibrate": 0, "evaluate": 0},
            },
            "vocabulary": 700,
            "width": 64,
            "layers": 2,
            "hidden": 64,
            "synthetic": 10,
            "steps": 5,
            "watch": 2,
            "latents": 2,
            "windows": 2,
            "held_out": 0.3,
            "judged_latents": 8,
        }
    )


def test_from_text_to_folder(config: TrainSimulatorConfig, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    card = train_simulator(config, tmp_path / "one")
    again = train_simulator(config, tmp_path / "two")
    torch.set_num_threads(threads)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    assert json.loads((tmp_path / "one" / CARD).read_text())["watched_log_loss"] == {
        str(step): value for step, value in again["watched_log_loss"].items()
    }
    assert list(card["watched_log_loss"]) == [0, 2, 4, 5]
    assert card["watched_log_loss"][card["best_step"]] == min(card["watched_log_loss"].values())
    assert set(card["held_out"]) == {"training coders", "nlsim:tiny layers.2.mlp"}
    for figures in card["held_out"].values():
        assert set(figures) == {"explanation", "shuffled", "none", "latents", "rows"}
        assert figures["latents"] > 0
    lm = LmConfig(model=str(tmp_path / "one"))
    assert is_simulator(lm)
    assert load_engine(lm).name == "packed"
