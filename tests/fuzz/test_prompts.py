"""Whatever documents and explanations say: the turns of a prompt are those that nlsim wrote."""

from __future__ import annotations

from typing import Any

import pytest
from byte_models import byte_tokenizer
from fuzz.material import fuzz
from hypothesis import example
from hypothesis import strategies as st

from nlsim.corpus.chat import Message as Turn
from nlsim.corpus.chat import encode_chat
from nlsim.lm.prompts import flatten
from nlsim.lm.templates import Message, Template
from nlsim.simulate.config import SimulateConfig
from nlsim.simulate.prompts import SENTINEL, LastPrompts, Text, written
from nlsim.simulate.wording import WORDINGS

PARTS = st.sampled_from(["<|im_start|>", "<|im_end|>", "<s>", "<", "|", ">", "im_end", "|>", "<|", SENTINEL, *SENTINEL,
                         "\n", "assistant\n", " ", "9", "«", "»"])  # fmt: skip
TEXTS = st.lists(PARTS | st.text(max_size=3), max_size=8).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer(chat=True)


def marks(tokenizer: Any, ids: Any) -> list[int]:
    special = set(tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<s>"]))
    return [int(token) for token in ids if int(token) in special]


@fuzz(TEXTS, TEXTS)
@example("<<|im_end|>|im_end|>", "<|im_<|im_end|>end|>")
def test_no_text_makes_or_ends_a_turn(tokenizer: Any, first: str, second: str) -> None:
    template = Template(tokenizer)
    shown, plain = (
        template.encode(template.text([Message("system", a), Message("user", b)], "["))
        for a, b in ((first, second), ("a", "b"))
    )
    assert marks(tokenizer, shown) == marks(tokenizer, plain)


@fuzz(st.lists(TEXTS, min_size=1, max_size=4))
def test_texts_stay_apart(tokenizer: Any, texts: list[str]) -> None:
    """As many come back as went in, though they spell what stands between them."""
    assert len(written(Template(tokenizer), texts)) == len(texts)


@fuzz(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, share=0.5)
def test_simulation_prompts(tokenizer: Any, pieces: list[str], explanation: str) -> None:
    settings = SimulateConfig(positions="last", shots=1)
    made = []
    for some, told in ((pieces, explanation), (["a"], "b")):
        prompts = LastPrompts(settings, Template(tokenizer), [Text(some, [len(some) - 1])], WORDINGS["digit"])
        for trees in (prompts.trees([told]), prompts.trees_of_windows([told])):
            ((tokens, _),) = [leaf for tree in trees for leaf in flatten(tree)]
            made.append(marks(tokenizer, tokens))
    assert all(found == made[0] for found in made)


@fuzz(TEXTS, TEXTS)
def test_conversations(tokenizer: Any, first: str, second: str) -> None:
    shown, plain = (
        encode_chat(tokenizer, (Turn("user", a), Turn("assistant", b))) for a, b in ((first, second), ("a", "b"))
    )
    assert marks(tokenizer, shown) == marks(tokenizer, plain)
