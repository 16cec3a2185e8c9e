"""The explainer that asks a language model: what it shows, and that what is no explanation is recorded as failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from byte_models import byte_tokenizer, write_model
from latents.world import World

from nlsim.config import parse_config
from nlsim.corpus.splits import Split
from nlsim.explain.explainer import Evidence, Explanation, build_explainer
from nlsim.explain.llm import LONGEST, OPENING, SHOTS, SYSTEM, LlmExplainer, parse_answer
from nlsim.explain.table import explanation_table, read_explanations
from nlsim.lm.engine import Generation, Sampling
from nlsim.lm.prompts import IntArray

PIECES = [f" w{number}".encode() for number in range(20)]
DEAD, RARE, TYPICAL, DENSE = range(4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A latent that is never active, one active at three tokens, one at token 7, and one almost everywhere."""
    rng = np.random.default_rng(0)
    rows, context = 160, 40
    tokens = rng.integers(1, 20, (rows, context))
    z = np.zeros((rows, context, 4))
    z[[3, 9, 30], 20, RARE] = 2.0
    z[..., TYPICAL] = np.where(tokens == 7, rng.gamma(2, 1, (rows, context)), 0)
    z[..., DENSE] = rng.gamma(2, 1, (rows, context))
    split = np.repeat([int(Split.EXPLAIN), int(Split.SCORE)], rows // 2)
    folder = tmp_path_factory.mktemp("world")
    return World(folder, tokens, np.full(rows, context), split, z.astype(np.float16))


class Known(Evidence):
    """Evidence whose vocabulary is given."""

    pieces = PIECES  # type: ignore[assignment]


def evidence(world: World, lm: str = "", **settings: Any) -> Known:
    sections = {"subject": {}, "coder": {}, "lm": {"model": lm}, "explain": {"method": "llm", **settings}}
    return Known(parse_config({"name": "world", **sections}), world.tokens, world.open())


class Writer:
    """An engine that writes given answers and remembers what it was asked."""

    tokenizer = byte_tokenizer(chat=True)

    def __init__(self, *answers: str) -> None:
        self.answers, self.prompts, self.calls = answers, [], 0
        self.prompts: list[str] = []

    def generate(self, prompts: Sequence[IntArray], sampling: Sampling) -> list[Generation]:
        self.calls += 1
        first = len(self.prompts)
        self.prompts += [self.tokenizer.decode(prompt.tolist()) for prompt in prompts]
        return [Generation(self.answers[(first + i) % len(self.answers)], 1, True) for i in range(len(prompts))]

    def facts(self) -> dict[str, str]:
        return {"engine": "writer"}

    def close(self) -> None:
        pass


def asked(monkeypatch: pytest.MonkeyPatch, known: Known, *answers: str) -> tuple[LlmExplainer, Writer]:
    engine = Writer(*answers)
    monkeypatch.setattr("nlsim.lm.engine.load_engine", lambda *_: engine)
    explainer = build_explainer(known)
    assert isinstance(explainer, LlmExplainer)
    return explainer, engine


def test_nonsense_from_a_real_model_is_a_failure(world: World, tmp_path: Path) -> None:
    """Mistake 16: a sentence that said that there was no explanation was used, and scored, as the explanation."""
    folder = write_model(tmp_path, byte_tokenizer(), says="!")
    explainer = build_explainer(evidence(world, str(folder), examples=4, max_tokens=6))
    assert explainer.model == str(folder)
    (found,) = explainer.explain([TYPICAL])
    assert (found.text, found.status) == ("", "failed")
    assert len(found.examples) == 4
    assert re.fullmatch("[0-9a-f]{16}", found.prompt_hash)


def test_a_real_model_that_writes_words_is_taken_at_its_word(world: World, tmp_path: Path) -> None:
    folder = write_model(tmp_path, byte_tokenizer(chat=True), says="a")
    explainer = build_explainer(evidence(world, str(folder), examples=2, max_tokens=5))
    assert [row.text for row in explainer.explain([TYPICAL, DENSE])] == ["aaaaa", "aaaaa"]


def test_what_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, engine = asked(monkeypatch, evidence(world, examples=12), "The word w7.")
    (found,) = explainer.explain([TYPICAL])
    assert found == Explanation(TYPICAL, "The word w7.", "ok", found.examples, found.prompt_hash)
    (prompt,) = engine.prompts
    assert prompt.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>")
    assert prompt.endswith(f"<|im_start|>assistant\n{OPENING}")
    query = prompt.rpartition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
    lines = query.split("\n")
    assert len(lines) == 24
    strongest = []
    for number, (text, listed) in enumerate(zip(lines[::2], lines[1::2], strict=True), 1):
        assert text.startswith(f"{number}. ")
        marks = re.findall("«(.*?)»", text)
        strengths = re.findall("“(.*?)” (\\d)(?:, |$)", listed)
        assert {mark.strip() for mark in marks} == {"w7"}
        assert [mark.strip() for mark in marks] == [name.strip() for name, _ in strengths]
        assert all(1 <= int(strength) <= 9 for _, strength in strengths)
        strongest.append(max(int(strength) for _, strength in strengths))
    assert strongest == sorted(strongest, reverse=True)
    assert strongest[0] >= 8
    rows = np.array(found.examples) // world.open().context
    assert (world.open().rows.split_R[rows] == Split.EXPLAIN).all()
    assert len(set(rows.tolist())) == 12


def test_worked_examples_have_the_form_of_the_question(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistake 15: worked examples were written differently from the question."""
    explainer, engine = asked(monkeypatch, evidence(world, examples=3), "x y")
    list(explainer.explain([TYPICAL]))
    users = re.findall(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", engine.prompts[0], re.DOTALL)
    assert len(users) == len(SHOTS) + 1
    for user in users:
        for number, (text, listed) in enumerate(zip(*[iter(user.split("\n"))] * 2, strict=True), 1):
            assert text.startswith(f"{number}. ")
            marks = [mark.strip() for mark in re.findall("«(.*?)»", text)]
            assert re.fullmatch(r"   “[^”]+” [1-9](, “[^”]+” [1-9])*", listed)
            assert [mark.strip() for mark in re.findall("“(.*?)”", listed)] == marks
    for _, answer in SHOTS:
        assert parse_answer(f" {answer}") == answer
        assert "«" not in answer


def test_examples_are_left_out_until_the_prompt_fits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistake 25: one prompt that was too long failed a whole batch of a hundred."""
    explainer, engine = asked(monkeypatch, evidence(world, examples=40, prompt_tokens=30_000), "One two.")
    (whole,) = explainer.explain([TYPICAL])
    room = len(engine.prompts[0].encode()) - 800
    explainer, engine = asked(monkeypatch, evidence(world, examples=40, prompt_tokens=room), "One two.")
    (fewer,) = explainer.explain([TYPICAL])
    assert fewer.status == "ok"
    assert 0 < len(fewer.examples) < len(whole.examples) == 40
    assert set(fewer.examples) < set(whole.examples)
    tokens = engine.tokenizer.encode(engine.prompts[0], add_special_tokens=False)
    assert len(tokens) + explainer.settings.max_tokens <= room
    explainer, engine = asked(monkeypatch, evidence(world, examples=40, prompt_tokens=125), "One two.")
    assert [row.status for row in explainer.explain([TYPICAL, DEAD])] == ["failed", "few"]
    assert engine.calls == 0


def test_a_latent_with_little_activity_is_not_asked_about(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, engine = asked(monkeypatch, evidence(world, min_tokens=4), "One two.")
    found = list(explainer.explain([DEAD, RARE, TYPICAL]))
    assert [(row.status, bool(row.text)) for row in found] == [("few", False), ("few", False), ("ok", True)]
    assert len(engine.prompts) == 1
    explainer, engine = asked(monkeypatch, evidence(world, min_tokens=3), "One two.")
    assert [len(row.examples) for row in explainer.explain([DEAD, RARE])] == [0, 3]


def test_answers_belong_to_their_latents(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistake 16: one answer without an explanation is that latent's failure and nobody else's."""
    explainer, _ = asked(monkeypatch, evidence(world), "First answer.", "…!", "Second answer.")
    latents = [TYPICAL, DEAD, DENSE, TYPICAL, DENSE]
    found = list(explainer.explain(latents))
    assert [row.latent for row in found] == latents
    assert [row.text for row in found] == ["First answer.", "", "", "Second answer.", "First answer."]
    assert [row.status for row in found] == ["ok", "few", "failed", "ok", "ok"]
    writer = world.index.__class__(world.index.objects, "explain", "e" * 16, 1).begin(0)
    rows = [found[2], found[0]]
    writer.table("explanations", explanation_table(rows, "llm", "writer"))
    writer.commit()
    assert read_explanations(world.index.__class__(world.index.objects, "explain", "e" * 16, 1)) == rows[::-1]


@pytest.mark.parametrize("sampling", ["top", "random", "quantiles"])
def test_samplings_differ_and_repeat(sampling: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    explainer, _ = asked(monkeypatch, evidence(world, examples=10, sampling=sampling), "One two.")
    (found,) = explainer.explain([TYPICAL])
    (again,) = explainer.explain([TYPICAL])
    assert found == again
    strength = {int(token): float(value) for token, value in zip(*active(world), strict=True)}
    shown = [strength[token] for token in found.examples]
    if sampling == "top":
        assert min(shown) >= np.sort(list(strength.values()))[-20]
    else:
        assert np.median(shown) < np.quantile(list(strength.values()), 0.95)


def active(world: World) -> tuple[np.ndarray, np.ndarray]:
    found = world.open().activations(TYPICAL, Split.EXPLAIN)
    return found.token, found.value


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (" Names of animals.", "Names of animals."),
        (" Names of animals.\nMore talk.", "Names of animals."),
        ("I think…\nExplanation: Names\nExplanation: Names of **animals**", "Names of **animals"),
        ('Sure! EXPLANATION : "Names of animals."', "Names of animals."),
        (" “ ⏎”", "“ ⏎”"),
        ("", None),
        ("   \n ", None),
        ("1. 2. 3.", None),
        ("!!!", None),
        ("?", None),
        ("Explanation:", None),
        ("«»", None),
        ("42", None),
    ],
)
def test_answers_are_read_or_failed(answer: str, text: str | None) -> None:
    assert parse_answer(answer) == text


def test_endless_answers_are_cut_at_a_sentence() -> None:
    found = parse_answer("The word cat. " * 200)
    assert found is not None
    assert len(found) <= LONGEST
    assert found.endswith("cat.")
