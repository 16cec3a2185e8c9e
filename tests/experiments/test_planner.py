"""Plans of every configuration without a network, what they will download, and the comparison of engines."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from command import nlsim_here as nlsim

from nlsim.config import load_config
from nlsim.experiments.downloads import downloads_of
from nlsim.experiments.planner import Prompts, compare_engines, prompts_of
from nlsim.lm.cost import alone_work, shared_work
from nlsim.lm.prompts import PromptTree, leaf
from nlsim.pipeline.plan import plan_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a plan must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_configuration_plans_without_a_network(path: Path, offline: None) -> None:
    config = load_config(path).config
    rows = plan_config(config)
    assert sum(row.estimate.bytes for row in rows) > 0
    assert all(row.shards >= 1 for row in rows)
    compared = compare_engines(config)
    hours = {(choice.engine, choice.hardware): choice.hours for choice in compared.choices}
    assert hours["packed", "H200"] <= hours["vllm", "H200"] <= hours["transformers", "H200"]
    assert hours["packed", "H200"] <= hours["packed", "A40"]


@pytest.mark.parametrize(
    ("name", "repositories"),
    [
        ("tiny", []),
        (
            "gpt2-saelens",
            [
                ("text", "monology/pile-uncopyrighted", ""),
                ("subject", "openai-community/gpt2", ""),
                ("coder", "gpt2-small-res-jb", "blocks.8.hook_resid_pre"),
                ("language model", "meta-llama/Llama-3.1-8B-Instruct", ""),
            ],
        ),
        (
            "llama-transcoder",
            [
                ("text", "HuggingFaceFW/fineweb-edu", ""),
                ("subject", "meta-llama/Llama-3.1-8B", ""),
                ("coder", "OpenMOSS-Team/Llama3_1-8B-Base-LXTC-8x", "Llama3_1-8B-Base-L16TC-8x"),
                ("language model", "meta-llama/Llama-3.1-8B-Instruct", ""),
            ],
        ),
        (
            "gemma-scope-2b",
            [
                ("text", "monology/pile-uncopyrighted", ""),
                ("subject", "google/gemma-2-2b", ""),
                ("coder", "google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_82"),
                ("language model", "meta-llama/Llama-3.1-8B-Instruct", ""),
            ],
        ),
    ],
)
def test_what_will_be_downloaded(
    name: str, repositories: list[tuple[str, str, str]], offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    path = next(path for path in CONFIGS if path.stem == name)
    found = downloads_of(load_config(path).config)
    assert [(part.use, part.repository, part.part) for part in found] == repositories
    assert not any(part.here for part in found)
    if name == "gemma-scope-2b":
        (tmp_path / "models--google--gemma-scope-2b-pt-res/snapshots/abc/layer_12/width_16k/average_l0_82").mkdir(
            parents=True
        )
        found = downloads_of(load_config(path).config)
        assert [part.here for part in found] == [False, False, True, False]
        assert found[2].command.endswith(
            'hf download google/gemma-scope-2b-pt-res --include "layer_12/width_16k/average_l0_82/*"'
        )
        assert found[0].command == "hf download monology/pile-uncopyrighted --repo-type dataset"


def test_an_endpoint_needs_its_tokenizer_here_and_not_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    path = next(path for path in CONFIGS if path.stem == "gpt2-saelens")
    words = ["lm.endpoint.base_url=http://localhost:1/v1", "lm.tokenizer=owner/tokenizer", "lm.adapter=owner/adapter"]
    found = [
        part for part in downloads_of(load_config(path, words).config) if part.use not in ("text", "subject", "coder")
    ]
    assert [(part.use, part.repository) for part in found] == [
        ("tokenizer", "owner/tokenizer"),
        ("adapter", "owner/adapter"),
    ]


def test_tokens_of_each_engine_are_those_of_the_tries() -> None:
    """One latent: the packed engine's and plain transformers' tokens are what `lm.cost` counts on the real trie."""
    prompts = Prompts(latents=1, texts=7, instructions=30, explanation=12, own=9)
    texts = tuple(leaf(range(9)) for _ in range(7))
    tree = PromptTree(range(30), [], (PromptTree(range(12), [], texts),))  # type: ignore[arg-type]
    assert prompts.tokens("packed") == shared_work([tree]).tokens
    assert prompts.tokens("transformers") == alone_work([tree]).tokens
    assert prompts.tokens("vllm") == 30 + 12 + 7 * (9 + 42 % 16)


def test_the_articles_cost_is_that_of_its_prompts() -> None:
    """Sharing saves the published run most of its tokens: some 87 % by prefixes, more by tries."""
    config = load_config(next(path for path in CONFIGS if path.stem == "article")).config
    prompts = prompts_of(config)["simulate"]
    assert 1 - prompts.tokens("vllm") / prompts.tokens("transformers") > 0.85
    assert prompts.tokens("packed") <= prompts.tokens("vllm")


def test_plan_compare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], offline: None) -> None:
    path = str(next(path for path in CONFIGS if path.stem == "gemma-scope-2b"))
    assert (
        nlsim(monkeypatch, "plan", path, "--compare", "--price", "H100=10", "--price", "2 CPU cores=0.1", "--json") == 0
    )
    found = json.loads(capsys.readouterr().out)
    by = {(row["engine"], row["hardware"]): row for row in found["choices"]}
    assert by["packed", "H100"]["price"] == pytest.approx(10 * by["packed", "H100"]["hours"])
    assert by["vllm", "2 CPU cores"]["price"] == pytest.approx(0.1 * by["vllm", "2 CPU cores"]["hours"])
    assert nlsim(monkeypatch, "plan", path, "--compare") == 0
    out = capsys.readouterr().out
    assert "shared beginnings, in blocks of 16 tokens" in out
    assert all(word in out for word in ("A40", "A100", "H100", "H200"))
    assert nlsim(monkeypatch, "plan", path) == 0
    out = capsys.readouterr().out
    assert "hf download google/gemma-2-2b" in out
    assert "`nlsim run … --until tokens` there" in out
    assert nlsim(monkeypatch, "plan", path, "--compare", "--price", "B200=1") == 2
    assert "--price 'B200=1' is not NAME=DOLLARS: known names: 2 CPU cores, A40" in capsys.readouterr().err
