"""What the simulator is trained on has the form of what it is asked."""

from typing import Any

import numpy as np
import pytest
import torch

from nlsim.corpus.pieces import Pieces
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.prompts import SimulatorPrompts, Text
from nlsim.simulator.batches import draw, simulation
from nlsim.simulator.material import Activity, Texts, examples_of
from nlsim.simulator.text import SimulatorText
from nlsim.simulator.tokenizer import train_tokenizer

PIECES = [b"<s>", b" the", b" value", b"\n", b"    ", b"\xc3", b"\xa9", b" class", b"(", b" return", b"s"]
ROWS, CONTEXT = 24, 20


@pytest.fixture(scope="module")
def text() -> SimulatorText:
    return SimulatorText(train_tokenizer(["the value of the class\n    return (values)\n"] * 20, 600))


@pytest.fixture(scope="module")
def texts(text: SimulatorText) -> Texts:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, len(PIECES), (ROWS, CONTEXT))
    tokens[:, 0] = 0
    tokens[:, 8:10] = [5, 6]  # one character in two tokens
    return Texts.of(tokens, np.where(np.arange(ROWS) % 3, CONTEXT, 15), np.arange(ROWS) // 2, PIECES, text)


def test_training_prompts_are_those_of_use(text: SimulatorText, texts: Texts) -> None:
    """Mistake 31: the template of training was not that of use."""
    place = np.flatnonzero(texts.reading.token_P == 2)
    activity = Activity(place, np.full(len(place), 7.0, np.float32))
    explanation = "Always 7: “ value”. Other tokens: never."
    prefix = text.prefix(explanation)
    rows = np.array([[0, 4, 5]])
    made = simulation(texts, text, [prefix], [activity], rows)

    engine: Any = type("Reader", (), {"tokenizer": type("Fast", (), {"backend_tokenizer": text._tokenizer})})
    tokens, length = texts.reading.token_P, np.diff(texts.first_R)
    asked = []
    for row in rows[0]:
        start = texts.first_R[row]
        asked.append(Text(Pieces(PIECES).strings(tokens[start : start + length[row]]), range(int(length[row]))))
    (tree,) = SimulatorPrompts(SimulateConfig(), engine, asked).trees([explanation])
    np.testing.assert_array_equal(made.batch[0][0], tree.tokens)
    flat = made.batch[2].reshape(3, -1)
    reads = []
    for window, (row, branch) in enumerate(zip(flat, enumerate(tree.branches), strict=True)):
        assert row[: len(branch[1].tokens)].tolist() == branch[1].tokens.tolist()
        reads += (branch[1].reads + window * flat.shape[1]).tolist()
    assert made.read_R.tolist() == reads
    expected = np.concatenate([tokens[texts.first_R[row] : texts.first_R[row] + length[row]] == 2 for row in rows[0]])
    assert made.target_R.tolist() == (7.0 * expected).tolist()


def test_an_explanation_never_saw_the_text_it_is_predicted_on(text: SimulatorText, texts: Texts) -> None:
    """Mistake 30: rows of the training data lay inside the rows that were evaluated."""
    place = np.flatnonzero(texts.reading.token_P == 9)
    found = list(examples_of(texts, [Activity(place, np.full(len(place), 5.0, np.float32))], least=1))
    assert [example.half for example in found] == [1, 0]
    for example in found:
        seen, _ = texts.part(1 - example.half)
        documents = set(seen.document_P.tolist())
        assert example.rules.base.occurrences == len(seen.token_P)
        asked = {int(row) // 2 for row in texts.by_length[example.half]}
        assert documents
        assert not documents & asked
    questions = draw(texts, text, found, 2, np.random.default_rng(0))
    assert torch.isfinite(questions.target_R).all()
