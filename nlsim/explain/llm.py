"""The explainer that asks a language model to write: examples with their strengths in, one sentence out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.explain.explainer import Evidence, Explanation
from nlsim.explain.quote import visible
from nlsim.latents.contexts import Contexts, ContextSampler
from nlsim.lm.templates import Message, Template

if TYPE_CHECKING:
    from nlsim.lm.prompts import IntArray

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
        from nlsim.lm.engine import load_engine

        config = evidence.config
        self.evidence, self.settings = evidence, config.explain
        self.engine = load_engine(config.lm)
        self.model = config.lm.model
        self.template = Template(self.engine.tokenizer, config.lm.template, config.lm.date)
        self.sampler = ContextSampler(evidence.index, CONTEXT, config.seed)
        self.pieces = Pieces(evidence.pieces)

    def explain(self, latents: Sequence[int]) -> Iterator[Explanation]:
        """Answers without an explanation are failures; so are prompts that cannot be made short enough."""
        pending = iter(latents)
        while block := list(islice(pending, BLOCK)):
            asked = [self._ask(latent) for latent in block]
            prompts = [prompt for _, prompt, _ in asked if prompt is not None]
            answers = iter(
                self.engine.generate(
                    prompts,
                    self.settings.max_tokens,
                    self.settings.temperature,
                    self.evidence.config.seed,
                    stop=("\n\n",),
                )
                if prompts
                else []
            )
            for latent, (contexts, prompt, status) in zip(block, asked, strict=True):
                if prompt is None:
                    yield Explanation(latent, "", "few" if status == "dead" else "failed")
                    continue
                text = parse_answer(next(answers).text)
                yield Explanation(
                    latent,
                    text or "",
                    "ok" if text else "failed",
                    tuple(contexts.target_tokens(self.evidence.index.context).tolist()),
                    hashlib.sha256(prompt.tobytes()).hexdigest()[:16],
                )

    def _ask(self, latent: int) -> tuple[Contexts, IntArray | None, str]:
        """The contexts shown for a latent and the prompt: with fewer contexts where all would be too long."""
        settings = self.settings
        contexts = self.sampler.draw(latent, Split.EXPLAIN, settings.examples, settings.sampling, settings.quantiles)
        scale = float(self.evidence.index.table.robust_max_M[latent])
        shown = len(contexts.row_N)
        while shown:
            tokens = self.template.encode(self._prompt(contexts, shown, scale))
            if len(tokens) + settings.max_tokens <= settings.prompt_tokens:
                kept = np.linspace(0, len(contexts.row_N) - 1, shown).astype(np.int64)
                return _some(contexts, kept), tokens, "ok"
            shown = min(shown - 1, shown * settings.prompt_tokens // (len(tokens) + settings.max_tokens))
        return contexts, None, contexts.status

    def _prompt(self, contexts: Contexts, shown: int, scale: float) -> str:
        turns = [Message("system", SYSTEM)]
        for texts, answer in SHOTS:
            turns += [Message("user", texts), Message("assistant", f"{OPENING} {answer}")]
        kept = np.linspace(0, len(contexts.row_N) - 1, shown).astype(np.int64)  # of every strength, strongest first
        examples = [self._example(i, contexts, int(n), scale) for i, n in enumerate(kept, 1)]
        return self.template.text([*turns, Message("user", "\n".join(examples))], OPENING)

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


def _some(contexts: Contexts, kept: np.ndarray) -> Contexts:
    """Some of the contexts."""
    fixed = ("latent", "status", "available")
    return contexts._replace(**{name: getattr(contexts, name)[kept] for name in contexts._fields if name not in fixed})


def parse_answer(answer: str) -> str | None:
    """The explanation in an answer: the text after the last “Explanation:”, or the first line where the answer goes
    straight on from the given opening. None where nothing is left that has a word in it."""
    found = _ANSWER.findall(answer)
    lines = [line.strip(" *\"'") for line in (found[-1:] or answer.strip().splitlines()[:1])]
    text = " ".join(lines[0].split()) if lines else ""
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(". ", 1)[0].rstrip(".") + "."
    return text if re.search(r"[^\W\d_]{2}|“[^”]+”", text) else None
