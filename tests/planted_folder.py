"""The planted model on disk with a small configuration of a run on it: what can go wrong is tried on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from byte_models import byte_tokenizer, write_model

from nlsim.coders.planted import Planted


def settings(folder: Path, rows: dict[str, int], fractions: dict[str, float], **more: Any) -> dict[str, Any]:
    """A configuration of a run on what `Planted.write` wrote into a folder; no split for training."""
    return {
        "corpus": {
            "source": {"kind": "files", "paths": [str(folder / "text.jsonl")]},
            "rows": {"train": 0, **rows},
            "fractions": {"train": 0, **fractions},
        },
        "subject": {"model": str(folder / "subject"), "device": "cpu"},
        "coder": {"path": str(folder / "coder.safetensors")},
        **more,
    }


def write_folder(path: Path) -> Path:
    """The planted model and coder, its text, and a language model that answers nonsense."""
    Planted().write(path, texts=80)
    write_model(path / "nonsense", byte_tokenizer(), says="!")
    config = settings(
        path,
        {"explain": 24, "score": 12, "calibrate": 4, "evaluate": 4},
        {"explain": 0.4, "score": 0.3, "calibrate": 0.15, "evaluate": 0.15},
        name="bad",
        latents={"choose": "listed", "ids": [0, 1, 2]},
        lm={"model": str(path / "nonsense"), "device": "cpu"},
        score={"examples": 2, "others": 2},
        simulate={"calibration_rows": 2, "evaluation_rows": 2, "shots": 0, "positions": "last"},
    )
    (path / "bad.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
