"""The explainer that asks a language model to write: examples with their strengths in, one sentence out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.errors import UsageError
from nlsim.explain.explainer import Evidence, Explanation, Status
from nlsim.explain.quote import visible
from nlsim.latents.contexts import Contexts, ContextSampler
from nlsim.lm.engine import Sampling
from nlsim.lm.simulator import is_simulator
from nlsim.lm.templates import Message, Template

if TYPE_CHECKING:
    from nlsim.lm.engine import Engine, Generation
    from nlsim.lm.prompts import IntArray

    Asked = tuple[int, Contexts, IntArray | None, Status]

CONTEXT = 32
"""Tokens of an example."""
BLOCK = 64
"""Latents whose prompts are sent together."""
OPENING = "Explanation:"
LONGEST = 600
"""Characters kept of an answer: a text that goes on and on is cut at the end of a sentence."""

SYSTEM = (
    "You study the inner features of a language model. You are shown texts in which one feature responds. Tokens it "
    "responds to stand between « and »; under each text they are listed with the strength of the response, 1 to 9.\n"
    "Say in one or two sentences what the feature responds to, so that somebody who reads only your sentence can tell "
    "for any token of any text whether the feature responds and how strongly. Be specific: name the tokens if they are "
    "few, the kind of token and what comes before it if that matters. Do not speak of the examples or the marks. Write "
    f"one line that starts with “{OPENING}”."
)
SHOTS = (
    (
        "1. They walked for« two»« hours» in the rain.\n   “ two” 4, “ hours” 9\n"
        "2. It took« ten»« minutes».\n   “ ten” 3, “ minutes” 9\n"
        "3. We waited three« days» for the letter.\n   “ days” 8",
        "Words for units of time (hours, minutes, days) after a number, strongest on the unit; the number is weak.",
    ),
    (
        "1. if x is None« raise» ValueError\n   “ raise” 9\n"
        "2. return the value or« raise» an exception\n   “ raise” 7\n"
        "3. is« raised» when the key is missing\n   “ raised” 5",
        "The verb “raise” where exceptions are raised, as a statement (strong) or in prose (medium, also “raised”).",
    ),
)
_ANSWER = re.compile(r"explanation\s*:\s*(.*)", re.IGNORECASE)


class LlmExplainer:
    """Asks the configured language model about contexts of the explain split."""

    def __init__(self, evidence: Evidence) -> None:
        """Raises UsageError for a language model that cannot write."""
        config = evidence.config
        self.evidence, self.settings = evidence, config.explain
        self.lm = config.language_model("explain")
        if is_simulator(self.lm):
            raise UsageError(f"{self.lm.model} writes no text", "name another language model in explain.lm")
        self.model = self.lm.model
        self.facts: dict[str, str] = {}
        self.sampler = ContextSampler(evidence.index, CONTEXT, config.seed)
        self.pieces = Pieces(evidence.pieces)

    def explain(self, latents: Sequence[int]) -> Iterator[Explanation]:
        """Answers without an explanation are failures; so are prompts that cannot be made short enough."""
        from nlsim.lm.engine import load_engine

        with closing(load_engine(self.lm)) as engine:
            template = Template(engine.tokenizer, self.lm.template, self.lm.date)
            pending = iter(latents)
            while block := list(islice(pending, BLOCK)):
                yield from self._written(engine, [(latent, *self._ask(latent, template)) for latent in block])
            self.facts.update(engine.facts())

    def _written(self, engine: Engine, asked: Sequence[Asked]) -> Iterator[Explanation]:
        """The explanations of some latents, all prompts at once."""
        settings, seed = self.settings, self.evidence.config.seed
        sampling = Sampling(settings.max_tokens, settings.temperature, seed, stop=("\n\n",))
        prompts = [prompt for _, _, prompt, _ in asked if prompt is not None]
        answers: Iterator[Generation] = iter(())
        if prompts:
            answers = iter(engine.generate(prompts, sampling))
        for latent, contexts, prompt, status in asked:
            if prompt is None:
                yield Explanation(latent, "", status)
                continue
            text = parse_answer(next(answers).text)
            yield Explanation(
                latent,
                text or "",
                "ok" if text else "failed",
                tuple(contexts.target_tokens(self.evidence.index.context).tolist()),
                hashlib.sha256(prompt.tobytes()).hexdigest()[:16],
            )

    def _ask(self, latent: int, template: Template) -> tuple[Contexts, IntArray | None, Status]:
        """The contexts shown for a latent and the prompt: with fewer contexts where all would be too long. Without a
        prompt the status says why there is none."""
        settings, table = self.settings, self.evidence.index.table
        contexts = self.sampler.draw(latent, Split.EXPLAIN, settings.examples, settings.sampling, settings.quantiles)
        if table.active_MS[latent, Split.EXPLAIN] < settings.min_tokens:
            return contexts, None, "few"
        scale = float(table.robust_max_M[latent])
        shown = len(contexts.row_N)
        while shown:
            tokens = template.encode(self._prompt(contexts, shown, scale, template))
            if len(tokens) + settings.max_tokens <= settings.prompt_tokens:
                kept = np.linspace(0, len(contexts.row_N) - 1, shown).astype(np.int64)
                return contexts.some(kept), tokens, "ok"
            shown = min(shown - 1, shown * settings.prompt_tokens // (len(tokens) + settings.max_tokens))
        return contexts, None, "failed"

    def _prompt(self, contexts: Contexts, shown: int, scale: float, template: Template) -> str:
        turns = [Message("system", SYSTEM)]
        for texts, answer in SHOTS:
            turns += [Message("user", texts), Message("assistant", f"{OPENING} {answer}")]
        kept = np.linspace(0, len(contexts.row_N) - 1, shown).astype(np.int64)  # of every strength, strongest first
        examples = [self._example(i, contexts, int(n), scale) for i, n in enumerate(kept, 1)]
        return template.text([*turns, Message("user", "\n".join(examples))], OPENING)

    def _example(self, number: int, contexts: Contexts, n: int, scale: float) -> str:
        length = int(contexts.length_N[n])
        activation_L = contexts.activation_NL[n, :length]
        strings = self.pieces.strings(contexts.tokens_NL[n, :length])
        marked_L = (activation_L > 0) & (activation_L >= self.settings.highlight * activation_L.max())
        text = "".join(f"«{piece}»" if mark else piece for piece, mark in zip(strings, marked_L, strict=True))
        strengths = ", ".join(
            f"“{visible(strings[i])}” {int(np.clip(round(9 * float(activation_L[i]) / scale), 1, 9))}"
            for i in np.flatnonzero(marked_L)
        )
        return f"{number}. {visible(text.strip())}\n   {strengths}"


def parse_answer(answer: str) -> str | None:
    """The explanation in an answer: the text after the last “Explanation:”, or the first line where the answer goes
    straight on from the given opening. None where nothing is left that has a word in it."""
    found = _ANSWER.findall(answer)
    lines = [line.strip(" *\"'") for line in (found[-1:] or answer.strip().splitlines()[:1])]
    text = " ".join(lines[0].split()) if lines else ""
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(". ", 1)[0].rstrip(".") + "."
    return text if re.search(r"[^\W\d_]{2}|“[^”]+”", text) else None
