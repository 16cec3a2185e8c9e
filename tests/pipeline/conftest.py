"""A small configuration and the toy pipeline in place of the article's."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from nlsim.config import Config, parse_config


def _load_toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy_pipeline", Path(__file__).with_name("toy.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config() -> Config:
    return parse_config({"name": "toy", "subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}})


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = _load_toy()
    monkeypatch.setattr("nlsim.experiments.registry.pipeline_of", lambda _config: module.toy())
    return module
