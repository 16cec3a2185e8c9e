"""Examples of made-up latents: who learns, who is judged, and that prompts and answers are those of use."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from byte_models import byte_tokenizer

from nlsim.config import Config, parse_config
from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.errors import DataError, UsageError
from nlsim.finetune.examples import Example, ExampleMaker, held_out
from nlsim.latents.index import Activations
from nlsim.latents.rows import TokenRows
from nlsim.lm.prompts import flatten
from nlsim.simulate.prompts import Text, simulation_prompts

ROWS, CONTEXT, LATENTS = 40, 12, 30
NAMES = [f"document {i}" for i in range(ROWS)]


class World:
    """Token t of a row is the letter a + t; latent i is active at every (i + 2)th token, with the token's number."""

    def __init__(self) -> None:
        tokens = np.tile(np.arange(CONTEXT), (ROWS, 1))
        self.rows = TokenRows(tokens, np.full(ROWS, CONTEXT), np.full(ROWS, int(Split.TRAIN)))
        self.context = CONTEXT
        self.table = SimpleNamespace(robust_max_M=np.full(LATENTS, 9.0))

    def activations(self, latent: int, split: Split) -> Activations:
        assert split is Split.TRAIN
        at = np.arange(ROWS * CONTEXT)
        at = at[(at % CONTEXT > 0) & (at % CONTEXT % (latent % 5 + 2) == 0)]
        return Activations(at, at // CONTEXT, at % CONTEXT, (at % CONTEXT).astype(np.float32))


def config(**sections: Any) -> Config:
    base = {"name": "x", "subject": {"model": "nlsim:tiny"}, "coder": {"path": "nlsim:tiny-skip"}, "lm": {"model": ""}}
    settings = {
        "cache": {"splits": ["train", "explain"]},
        "simulate": {"positions": "last", "prompt": "digit", "window": 4, "shots": 1},
        "finetune": {"held_out": 0.3, "active": 3, "silent": 4},
    }
    return parse_config({**base, **settings, **sections})


def make(settings: Config, world: World | None = None) -> tuple[list[Example], Any]:
    tokenizer = byte_tokenizer()
    pieces = Pieces([bytes([97 + t]) for t in range(CONTEXT)])
    index: Any = world or World()
    maker = ExampleMaker(settings, index, pieces, tokenizer, np.arange(ROWS), NAMES)
    found = [one for latent in range(LATENTS) for one in maker.make(latent, f"own {latent}", f"other {latent}")]
    return found, tokenizer


def test_held_out_latents_meet_held_out_documents_and_nothing_else_does() -> None:
    """Mistake 30: neither a latent nor a document of training is judged with."""
    found, _ = make(config())
    for one in found:
        latent, document = held_out("latent", one.latent, 0.3), held_out("document", NAMES[one.document], 0.3)
        assert latent == document == (one.group == "judge")
    groups = {group: [one for one in found if one.group == group] for group in ("learn", "judge")}
    assert all(groups.values())
    assert {one.explanation for one in groups["learn"]} == {"own"}
    assert [one.explanation for one in groups["judge"]].count("other") * 2 == len(groups["judge"])


def test_prompts_are_those_of_use_and_answers_are_true() -> None:
    """Mistake 31: one template at training and at use."""
    settings = config()
    found, tokenizer = make(settings)
    speaker: Any = SimpleNamespace(tokenizer=tokenizer)
    answers = []
    for one in found[:60]:
        text = tokenizer.decode(one.tokens.tolist())
        shown = text.rpartition("Text:\n")[2].partition("»")[0].replace("«", "")
        last = ord(shown[-1]) - 97
        truth = last if last % (one.latent % 5 + 2) == 0 else 0
        assert one.answers.tolist() == [min(truth, 9)]
        assert shown == "".join(chr(97 + t) for t in range(last - 3, last + 1))
        explanation = f"{one.explanation} {one.latent}"
        again = simulation_prompts(settings.simulate, settings.lm, speaker, [Text(list(shown), [3])])
        ((tokens, reads),) = flatten(next(iter(again.trees([explanation]))))
        np.testing.assert_array_equal(one.tokens, tokens)
        np.testing.assert_array_equal(one.reads, reads)
        answers.append(truth)
    assert 0 in answers
    assert max(answers) > 5


def test_whole_rows_are_shown_once_with_an_answer_to_every_token_but_the_last() -> None:
    settings = config(simulate={"positions": "all", "prompt": "binary", "shots": 0})
    found, _ = make(settings)
    seen = [(one.latent, one.document, one.explanation) for one in found]
    assert len(seen) == len(set(seen))
    for one in found[:20]:
        truth = [int(t % (one.latent % 5 + 2) == 0) for t in range(1, CONTEXT - 1)]
        assert one.answers.tolist() == truth


def test_the_shuffled_control_learns_from_other_explanations() -> None:
    found, tokenizer = make(config(finetune={"held_out": 0.3, "active": 1, "silent": 1, "shuffle": True}))
    texts = [tokenizer.decode(one.tokens.tolist()) for one in found if one.group == "learn"]
    assert texts
    assert all("other " in text for text in texts)


def test_what_cannot_work() -> None:
    with pytest.raises(UsageError, match="train split, which was not cached"):
        make(config(cache={"splits": ["explain"]}))
    with pytest.raises(DataError, match="no document is left to judge with"):
        make(config(finetune={"held_out": 1e-9}))
