"""Each stage's own language model: what it is, what it needs, and that it alone is in the stage's fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nlsim.config import Config, parse_config
from nlsim.lm.config import LmConfig
from nlsim.lm.planning import engine_resources, parameters
from nlsim.pipeline.plan import plan_config
from nlsim.pipeline.registry import pipeline_of

STAGES = ("explain", "score", "simulate")


def config(**sections: Any) -> Config:
    least = {"name": "x", "subject": {"model": "owner/subject"}, "coder": {"path": "nlsim:tiny-skip"}}
    return parse_config({**least, "lm": {"model": "owner/root-8b"}, "explain": {"method": "llm"}, **sections})


def fingerprints(made: Config) -> dict[str, str]:
    pipeline = pipeline_of(made)
    return {
        name: pipeline.stage(name).fingerprint(made, dict.fromkeys(pipeline.stage(name).inputs, "")) for name in STAGES
    }


def test_a_stage_without_a_model_of_its_own_asks_the_roots() -> None:
    made = config(score={"lm": {"model": "owner/judge"}})
    assert [made.language_model(stage).model for stage in STAGES] == ["owner/root-8b", "owner/judge", "owner/root-8b"]  # type: ignore[arg-type]


def test_a_model_is_in_the_fingerprints_of_those_that_ask_it() -> None:
    """Another simulator leaves explanations as they are; and it does not matter where a model is named."""
    base = fingerprints(config())
    simulator = fingerprints(config(simulate={"lm": {"model": "owner/other"}}))
    assert {name for name in STAGES if simulator[name] != base[name]} == {"simulate"}
    root = fingerprints(config(lm={"model": "owner/new"}, explain={"method": "llm", "lm": {"model": "owner/root-8b"}}))
    assert {name for name in STAGES if root[name] != base[name]} == {"score", "simulate"}
    faster = fingerprints(config(lm={"model": "owner/root-8b", "batch_tokens": 7, "engine": "transformers"}))
    assert faster == base
    counted = fingerprints(config(explain={"method": "lexical"}))
    assert (
        counted["explain"] == fingerprints(config(lm={"model": "owner/new"}, explain={"method": "lexical"}))["explain"]
    )


def test_resources_and_work_follow_the_stages_own_model() -> None:
    large = {"model": "owner/Big-70B", "engine": "vllm", "vllm": {"tensor_parallel": 4}}
    rows = {row.name: row for row in plan_config(config(explain={"method": "llm", "lm": large}))}
    small = {row.name: row for row in plan_config(config())}
    assert rows["explain"].resources == (rows["explain"].resources._replace(image="vllm", gpus=4))
    assert (rows["simulate"].resources.image, rows["simulate"].resources.gpus) == ("model", 1)
    assert rows["explain"].estimate.flops == pytest.approx(small["explain"].estimate.flops * 70 / 8)
    assert rows["simulate"].estimate == small["simulate"].estimate
    counted = {row.name: row for row in plan_config(config(explain={"method": "lexical"}))}
    assert counted["explain"].estimate.flops == 0
    assert counted["explain"].resources.gpus == 0


def test_what_an_endpoint_charges() -> None:
    """Every prompt in full; nothing of it is computed here."""
    lm = {"model": "gpt", "endpoint": {"base_url": "http://h/v1"}, "prices": {"input": 2.0, "output": 10.0}}
    rows = {row.name: row.estimate for row in plan_config(config(simulate={"lm": lm, "positions": "last"}))}
    assert rows["explain"].price == rows["score"].price == rows["simulate"].flops == 0
    assert rows["simulate"].price > rows["simulate"].predictions * (500 * 2.0 + 10.0) / 1e6
    free = {"model": "gpt", "endpoint": {"base_url": "http://h/v1"}}
    assert {row.name: row.estimate for row in plan_config(config(simulate={"lm": free}))}["simulate"].price == 0


@pytest.mark.parametrize(
    ("lm", "image", "gpus"),
    [
        (LmConfig(model="owner/x-8b"), "model", 1),
        (LmConfig(model="owner/x-135M"), "model", 0),
        (LmConfig(model="owner/x-135M", device="cuda"), "model", 1),
        (LmConfig(model="owner/x-8b", device="cpu"), "model", 0),
        (LmConfig(model="owner/x-70b", device="shard"), "model", 2),
        (LmConfig(model="owner/x-70b", engine="vllm", vllm={"tensor_parallel": 2}), "vllm", 2),
        (LmConfig(model="gpt", endpoint={"base_url": "http://h/v1"}), "model", 0),
    ],
)
def test_what_a_shard_needs(lm: LmConfig, image: str, gpus: int) -> None:
    found = engine_resources(lm)
    assert (found.image, found.gpus) == (image, gpus)


def test_parameters_of_a_folder(tmp_path: Path) -> None:
    """Llama 3.1 8B has 6.979 billion parameters in its layers; a folder's config.json says so, a name roughly."""
    shape = {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "model_type": "llama",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(shape))
    assert parameters(LmConfig(model=str(tmp_path))) == pytest.approx(6.979e9, rel=1e-3)
    assert parameters(LmConfig(model="meta-llama/Llama-3.1-8B-Instruct")) == 8e9
    assert parameters(LmConfig(model="HuggingFaceTB/SmolLM2-135M")) == 135e6
    assert parameters(LmConfig(model="owner/unknown")) == 8e9
