"""Measuring a machine: `nlsim bench lm`, and the script for GPUs on a tiny shape."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nlsim.cli.main import main
from nlsim.errors import UsageError
from nlsim.lm.bench import Prompts, measure
from nlsim.lm.config import LmConfig
from nlsim.lm.cost import Work, alone_work, shared_work
from nlsim.lm.prompts import PromptTree

ROOT = Path(__file__).parents[2]
SIZES = ["--prefix", "40", "--explanation", "5", "--suffix", "6", "--texts", "4", "--seconds", "0.01"]


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["nlsim", "bench", "lm", *words])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_bench_lm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["--plan", str(ROOT / "configs" / "tiny.yaml"), "--price", "2"]
    words = ["--model", "nlsim:simulator", "--device", "cpu", *SIZES, *plan]
    assert run(monkeypatch, *words, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["engine"] == "packed"
    assert found["predictions"] % 4 == 0
    assert found["predictions_per_s"] == pytest.approx(found["predictions"] / found["seconds"])
    assert min(found["flops_per_s"], found["peak_flops_per_s"], found["memory_bytes"]) > 0
    assert found["saved"] > 3
    assert found["plan"]["hours"] > 0
    assert found["plan"]["price"] == pytest.approx(2 * found["plan"]["hours"])
    assert run(monkeypatch, *words) == 0
    assert "predictions per second" in capsys.readouterr().out


def test_what_cannot_be_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--model", "nlsim:simulator", "--engine", "abacus") == 2
    assert "engine" in capsys.readouterr().err
    with pytest.raises(UsageError, match="not this machine's"):
        measure(LmConfig(model="m", endpoint={"base_url": "http://h/v1"}), Prompts(1, 1, 1, 1), 0.1)


def test_work_of_many_tries() -> None:
    """The instructions are counted once, as if all tries hung below them."""
    prompts = Prompts(prefix=20, explanation=3, suffix=4, texts=5)
    trees = prompts.trees(50)
    chosen = [next(trees) for _ in range(3)]
    nothing = np.empty(0, np.int64)
    below = tuple(PromptTree(tree.tokens[20:], nothing, tree.branches) for tree in chosen)
    whole = PromptTree(chosen[0].tokens[:20], nothing, below)
    assert prompts.work(chosen) == shared_work([whole])
    assert alone_work(chosen) == alone_work([whole]) == Work(15 * 27, 15 * 27 * 28 // 2, 15)


def test_the_script_for_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`bench/gpu.py` does on a CPU, for a tiny shape, what it does on a GPU."""
    spec = importlib.util.spec_from_file_location("gpu_bench", ROOT / "bench" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    options = ["--shape", "tiny", "--device", "cpu", "--compile", "no", "--batch-tokens", "256", "512"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options, "--texts", "4", "--seconds", "0.01", "--json"])
    script.main()
    found = json.loads(capsys.readouterr().out)
    assert [row["batch_tokens"] for row in found["runs"]] == [256, 512]
    assert 0 < found["agreement"]["ratio"] <= 1.5
    assert found["agreement"]["ours_against_library_largest"] < 0.5
    assert all(row["predictions_per_s"] > 0 for row in found["runs"])
