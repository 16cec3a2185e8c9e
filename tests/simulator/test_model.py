"""The network computes what a Llama does, knows its trade from the start, and learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nlsim.lm.config import LmConfig
from nlsim.lm.engine import load_engine
from nlsim.lm.prompts import PromptTree
from nlsim.lm.simulator import CARD, is_simulator
from nlsim.simulator.batches import pad_left, soft_digits
from nlsim.simulator.initial import RESERVED, initialise
from nlsim.simulator.model import Batch, Shape, Simulator
from nlsim.simulator.text import SPECIAL, SimulatorText
from nlsim.simulator.tokenizer import train_tokenizer
from nlsim.simulator.train import save

SENTENCE = "the function returns a value of some class or raises an error when it is called with wrong arguments"
WORDS = SENTENCE.split()
DOCUMENTS = [" ".join(["", *np.random.default_rng(i).permutation(WORDS)]) for i in range(40)]
TOKENIZER = train_tokenizer(DOCUMENTS, 900)
TEXT = SimulatorText(TOKENIZER)


def simulator(seed: int = 0) -> Simulator:
    torch.manual_seed(seed)
    shape = Shape(TOKENIZER.get_vocab_size(), theta=1e6)
    model = Simulator(shape, TEXT.digits)
    meaning = torch.randn(shape.vocabulary, shape.width - RESERVED)
    meaning[: len(SPECIAL)] = 0
    initialise(model, TEXT, meaning)
    return model


def shaken(seed: int = 0) -> Simulator:
    """All weights random, so that nothing is zero by construction."""
    model = simulator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simulator")
    model = shaken()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())  # what the file holds
    save(model, TOKENIZER, path)
    (path / CARD).write_text("{}")
    return path


def answers(model: Simulator, explanations: list[str], windows: list[list[str]]) -> torch.Tensor:
    """Expected digits [E, W, T] of one-token pieces."""
    prefix, length = pad_left([TEXT.prefix(line) for line in explanations], 0)
    tokens = torch.tensor(np.stack([TEXT.window(window).tokens for window in windows]))
    with torch.no_grad():
        hidden = model(Batch(prefix, length, tokens.expand(len(explanations), -1, -1)))
        share = model.logprobs(hidden.flatten(0, 2)).exp()
    return (share @ torch.arange(10.0)).view(len(explanations), len(windows), -1)


def test_transformers_computes_the_same(folder: Path) -> None:
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ours = shaken()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.half().float())
    lines = ["Always 7: “ the”.", "Often 3: “ value”, “ of”, “ class”. Other tokens: never."]
    prefixes = [TEXT.prefix(line) for line in lines]
    window = TEXT.window([" the", " value", " of", " function"]).tokens
    padded, length = pad_left(prefixes, 0)
    with torch.no_grad():
        hidden = ours(Batch(padded, length, torch.from_numpy(window).expand(2, 1, -1)))
        mine = ours.logprobs(hidden.flatten(0, 2)).view(2, len(window), -1)
        for e, prefix in enumerate(prefixes):
            whole = torch.from_numpy(np.concatenate([prefix, window]))[None]
            theirs = reference(whole).logits[0, len(prefix) :].log_softmax(-1)[:, TEXT.digits]
            torch.testing.assert_close(mine[e], theirs, atol=2e-3, rtol=2e-3)


def test_engines_load_the_folder_and_agree(folder: Path) -> None:
    config = LmConfig(model=str(folder), device="cpu")
    assert is_simulator(config)
    window = TEXT.window([" the", " value", " of"])
    leaf = PromptTree(window.tokens, window.ends)
    tree = PromptTree(TEXT.prefix("Always 7: “ the”."), np.empty(0, int), (leaf, leaf))
    found = []
    for name in ("packed", "transformers"):
        engine = load_engine(config.model_copy(update={"engine": name}))
        assert SimulatorText.of(engine.tokenizer).digits == TEXT.digits
        (choice,) = engine.choose([tree], TEXT.digits)
        found.append(choice.logprobs_RC)
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
    assert AutoTokenizer.from_pretrained(folder).encode(" the value") == TEXT.piece(" the") + TEXT.piece(" value")


def test_the_start_already_looks_tokens_up() -> None:
    model = simulator()
    lines = ["Always 8: “ value”. Often 4: “ the”. Never: “ of”.", "Always 5: “ class”.", ""]
    found = answers(model, lines, [[" value", " the", " class", " of", " function", " value"]])[:, 0]
    value, the, class_, of, function, again = found[0].tolist()
    assert value > 6
    assert again > 6
    assert 0.7 < the < 2.5
    assert max(of, function, class_) < 0.7
    assert found[1, 2] > 3.5
    assert found[1, [0, 1, 3, 4, 5]].max() < 0.7
    assert found[2].max() < 0.5


def test_explanations_and_windows_do_not_mix() -> None:
    """The answers of one explanation do not depend on the others of its batch, nor on its padding or other windows."""
    model = shaken()
    lines = ["Always 8: “ value”.", "Often 4: “ the”, “ of”, “ class”, “ error”. Other tokens: never."]
    windows = [[" value", " the", " of"], [" error", " class", " value"]]
    together = answers(model, lines, windows)
    for e, line in enumerate(lines):
        for w, window in enumerate(windows):
            torch.testing.assert_close(together[e, w], answers(model, [line], [window])[0, 0], atol=1e-4, rtol=1e-4)


def test_answers_read_only_what_stands_before() -> None:
    model = shaken()
    first = answers(model, ["Always 8: “ value”."], [[" value", " the", " of"]])
    second = answers(model, ["Always 8: “ value”."], [[" value", " the", " error"]])
    torch.testing.assert_close(first[..., :2], second[..., :2])


def test_soft_digits_keep_the_mean() -> None:
    strength = torch.tensor([0.0, 0.25, 1.0, 4.6, 8.99, 9.0])
    soft = soft_digits(strength)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    torch.testing.assert_close(soft @ torch.arange(10.0), strength)
    assert (soft >= 0).all()


def test_other_models_are_no_simulators(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert not is_simulator(LmConfig(model=str(tmp_path)))
    assert not is_simulator(LmConfig(model="EleutherAI/pythia-160m"))
