"""One core is enough for tiny models, and tests run side by side. An engine before a server that fails on request."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_server import KEY, Server

from nlsim.lm import endpoint as endpoint_module
from nlsim.lm.config import LmConfig
from nlsim.lm.openai import OpenAIEngine

torch.set_num_threads(1)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def make(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., OpenAIEngine]]:
    monkeypatch.setattr(endpoint_module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(endpoint_module, "LONGEST_DELAY", 0.004)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NLSIM_CACHE", str(tmp_path))
    engines = []

    def build(**settings: Any) -> OpenAIEngine:
        options = {"base_url": server.url, "concurrency": 8, "retries": 6, **settings}
        prices = {"input": 2.0, "output": 10.0}
        engines.append(OpenAIEngine(LmConfig(model="m", engine="openai", endpoint=options, prices=prices)))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in files)  # the key is written nowhere
