"""The planted model on disk with a small configuration of a run on it: what can go wrong is tried on it."""

from __future__ import annotations

from pathlib import Path

import yaml
from byte_models import byte_tokenizer, write_model

from nlsim.coders.planted import Planted


def write_folder(path: Path) -> Path:
    """The planted model and coder, its text, and a language model that answers nonsense."""
    Planted().write(path, texts=80)
    write_model(path / "nonsense", byte_tokenizer(), says="!")
    rows = {"train": 0, "explain": 24, "score": 12, "calibrate": 4, "evaluate": 4}
    config = {
        "name": "bad",
        "corpus": {
            "source": {"kind": "files", "paths": [str(path / "text.jsonl")]},
            "rows": rows,
            "fractions": {"train": 0, "explain": 0.4, "score": 0.3, "calibrate": 0.15, "evaluate": 0.15},
        },
        "subject": {"model": str(path / "subject"), "device": "cpu"},
        "coder": {"path": str(path / "coder.safetensors")},
        "latents": {"choose": "listed", "ids": [0, 1, 2]},
        "lm": {"model": str(path / "nonsense"), "device": "cpu"},
        "score": {"examples": 2, "others": 2},
        "simulate": {"calibration_rows": 2, "evaluation_rows": 2, "shots": 0, "positions": "last"},
    }
    (path / "bad.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
