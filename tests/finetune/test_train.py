"""Training: batches, schedules, carrying on from any step to the same bytes, learning what is planted."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from nlsim.errors import DataError
from nlsim.finetune.config import FinetuneConfig
from nlsim.finetune.examples import Example
from nlsim.finetune.lora import SETTINGS, WEIGHTS, Tuned
from nlsim.finetune.train import Point, batches, schedule, train
from nlsim.lm.config import LmConfig

CHOICES = (5, 6)
VOCABULARY = 40


class Shelf:
    """Keeps bytes in memory; a stop is asked for at a step."""

    def __init__(self, stop: int | None = None) -> None:
        self.held: dict[str, bytes] = {}
        self.stop = stop

    def keep(self, name: str, data: bytes) -> None:
        self.held[name] = data

    def kept(self, name: str) -> bytes | None:
        return self.held.get(name)

    def progress(self, done: int, total: int) -> None:
        assert done <= total
        if self.stop is not None and done >= self.stop:
            raise InterruptedError


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LmConfig:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(shape)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # else no hidden state can be sure of anything
    model.save_pretrained(folder)
    return LmConfig(model=str(folder), device="cpu")


def planted(count: int, seed: int = 0) -> list[Example]:
    """The answer is whether the prompt ends with token 7."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        tokens = rng.integers(8, VOCABULARY, rng.integers(4, 9))
        answer = int(rng.random() < 0.5)
        if answer:
            tokens[-1] = 7
        group = "judge" if i % 4 == 0 else "learn"
        found.append(Example(i, 0, group, "own", tokens, np.array([len(tokens) - 1]), np.array([answer])))  # type: ignore[arg-type]
    return found


def settings(**more: object) -> FinetuneConfig:
    base = {"rank": 4, "batch": 8, "steps": 7, "epochs": 2, "judged": 8, "judge_every": 3, "save_every": 2}
    return FinetuneConfig.model_validate({**base, "dropout": 0.1, **more})


def run(lm: LmConfig, config: FinetuneConfig, shelf: Shelf) -> tuple[dict[str, bytes], list[Point]]:
    tuned = Tuned(lm, config, 3)
    curve = train(tuned, planted(64), CHOICES, config, 3, shelf, shelf.progress)
    return tuned.files(), curve


def test_stopped_at_any_step_it_ends_with_the_same_bytes(lm: LmConfig) -> None:
    files, curve = run(lm, settings(), Shelf())
    assert [point.step for point in curve] == [0, 3, 6, 7]
    for stop in (1, 5):
        shelf = Shelf(stop)
        with pytest.raises(InterruptedError):
            run(lm, settings(), shelf)
        shelf.stop = None
        again, resumed = run(lm, settings(), shelf)
        assert again == files
        assert list(itertools.chain(*resumed))[2:] == list(itertools.chain(*curve))[2:]
        assert math.isnan(resumed[0].learned)


def test_it_learns_what_is_planted(lm: LmConfig) -> None:
    _, curve = run(lm, settings(steps=60, epochs=20, learning_rate=2e-2, judge_every=20, dropout=0), Shelf())
    assert curve[-1].judged < 0.3 < math.log(2) < curve[0].judged


def test_micro_batches_change_nothing_but_rounding(lm: LmConfig) -> None:
    losses = [run(lm, settings(micro_batch=size, dropout=0), Shelf())[1][-1].judged for size in (1, 8)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_adapter_is_peft_s_and_names_no_folder(lm: LmConfig, tmp_path: Path) -> None:
    files, _ = run(lm, settings(), Shelf())
    (tmp_path / "adapter").mkdir()
    for name, data in files.items():
        (tmp_path / "adapter" / name).write_bytes(data)
    assert set(files) == {WEIGHTS, SETTINGS}
    from nlsim.lm.loading import load_model

    changed = load_model(lm.model_copy(update={"adapter": str(tmp_path / "adapter")}))
    plain = load_model(lm)
    tokens = torch.tensor([[7, 8, 9]])
    assert not torch.equal(changed(tokens).logits, plain(tokens).logits)


def test_nothing_to_judge_with(lm: LmConfig) -> None:
    only = [example for example in planted(8) if example.group == "learn"]
    with pytest.raises(DataError, match="no examples"):
        train(Tuned(lm, settings(), 0), only, CHOICES, settings(), 0, Shelf(), lambda *_: None)


def test_every_pass_shows_every_example_once_and_batches_run_over_its_end() -> None:
    found = np.concatenate(list(batches(10, 4, 0, 0, 5)))
    assert sorted(found[:10]) == sorted(found[10:]) == list(range(10))
    later = list(batches(10, 4, 0, 3, 5))
    np.testing.assert_array_equal(np.concatenate(later), found[12:])
    assert len(np.concatenate(list(batches(3, 8, 0, 0, 2)))) == 16


def test_the_rate_rises_and_falls() -> None:
    rates = [schedule(step, 10, 0.2) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == 1.0
    assert rates[-1] == pytest.approx(1 / 8)
    assert all(a >= b for a, b in itertools.pairwise(rates[1:]))
