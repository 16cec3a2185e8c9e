"""What is asked about an explanation: contexts, some activating and some silent, plain (detection) or marked
(fuzzing)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split, unit_hash
from nlsim.latents.contexts import Contexts, ContextSampler
from nlsim.latents.silent import SilentSampler

if TYPE_CHECKING:
    from nlsim.corpus.pieces import Pieces
    from nlsim.latents.index import LatentIndex
    from nlsim.score.config import ScoreConfig
    from nlsim.score.embedding import EmbeddingScorer

Scorer = Literal["detection", "fuzzing", "embedding"]
CONTEXT = 32
"""Tokens of a context."""
POOL = 10
"""Random silent contexts that each `similar` one is the nearest of."""


class Question(NamedTuple):
    """One context and the right answer."""

    row: int
    start: int
    """First position shown."""
    pieces: list[str]
    marked: tuple[bool, ...]
    """Marked tokens; none in detection."""
    truth: bool
    """Detection: the latent is active in the context. Fuzzing: it is active at the marked tokens."""
    quantile: int
    """Strength rank of an activating context, 0 the strongest; -1 where silent."""


class QuestionMaker:
    """Draws the questions about a latent from the score split, which no explainer sees (mistake 18)."""

    def __init__(self, config: ScoreConfig, index: LatentIndex, pieces: Pieces, seed: int) -> None:
        self._config, self._pieces, self._seed = config, pieces, seed
        self._active = ContextSampler(index, CONTEXT, seed)
        self._silent = SilentSampler(index, seed)

    def contexts(self, latent: int) -> tuple[Contexts, Contexts]:
        """Activating contexts of every strength, and silent ones: at random, or hard to tell from them."""
        active, others = self.active(latent), self._config.others
        if self._config.silent == "similar":
            return active, self._nearest(active, self._silent.random(active, Split.SCORE, POOL * others), others)
        draw = self._silent.hard if self._config.silent == "hard" else self._silent.random
        return active, draw(active, Split.SCORE, others)

    def active(self, latent: int) -> Contexts:
        """Activating contexts of every strength alone."""
        return self._active.draw(latent, Split.SCORE, self._config.examples, "quantiles", self._config.quantiles)

    def detection(self, active: Contexts, silent: Contexts) -> list[Question]:
        """Plain texts: is the latent active somewhere in them?"""
        return self._shuffled(
            [
                *self._questions(active, np.zeros_like(active.activation_NL, np.bool_), True),
                *self._questions(silent, np.zeros_like(silent.activation_NL, np.bool_), False),
            ],
            active.latent,
        )

    def fuzzing(self, active: Contexts) -> list[Question]:
        """Activating contexts with tokens marked: the active ones, or as many silent ones of the same context.

        Every other context, by rank, gets the wrong marks, at random places of its own. So right and wrong marks are
        told apart by the tokens alone, not by the text around them (mistake 21).
        """
        strong = active.activation_NL >= self._config.highlight * active.strength_N[:, None]
        strong &= active.activation_NL > 0
        wrong = np.zeros_like(strong)
        for n in range(len(active.row_N)):
            rng = np.random.default_rng([self._seed, active.latent, n])
            idle = np.flatnonzero(active.activation_NL[n, : active.length_N[n]] == 0)
            wrong[n, rng.choice(idle, min(int(strong[n].sum()), len(idle)), replace=False)] = True
        odd = np.arange(len(active.row_N)) % 2 == 1
        odd &= wrong.any(1)  # a context active at every token has no wrong marks
        return self._shuffled(
            [
                question._replace(truth=not swapped)
                for question, swapped in zip(
                    self._questions(active, np.where(odd[:, None], wrong, strong), True), odd, strict=True
                )
            ],
            active.latent,
        )

    def _nearest(self, active: Contexts, silent: Contexts, count: int) -> Contexts:
        """The silent contexts whose text is most like that of any activating one: the largest cosine."""
        if not len(silent.row_N):
            return silent
        near_AS = self._embedding.embed(self._texts(active)) @ self._embedding.embed(self._texts(silent)).T
        nearest = np.argsort(-near_AS.max(0), kind="stable")[:count]
        return silent.some(nearest)._replace(status="ok" if len(nearest) == count else "few")

    @cached_property
    def _embedding(self) -> EmbeddingScorer:
        from nlsim.score.embedding import EmbeddingScorer

        return EmbeddingScorer(self._config.embedding_model)

    def _texts(self, contexts: Contexts) -> list[str]:
        return [
            "".join(self._pieces.strings(tokens_L[:length]))
            for tokens_L, length in zip(contexts.tokens_NL, contexts.length_N, strict=True)
        ]

    def _questions(self, contexts: Contexts, marked_NL: npt.NDArray[np.bool_], truth: bool) -> Iterator[Question]:
        for n in range(len(contexts.row_N)):
            length = int(contexts.length_N[n])
            yield Question(
                int(contexts.row_N[n]),
                int(contexts.start_N[n]),
                self._pieces.strings(contexts.tokens_NL[n, :length]),
                tuple(marked_NL[n, :length].tolist()),
                truth,
                int(contexts.quantile_N[n]),
            )

    def _shuffled(self, questions: list[Question], latent: int) -> list[Question]:
        """In an order that says nothing of the answers: by a hash of where the text comes from."""
        return sorted(
            questions, key=lambda question: unit_hash("order", self._seed, latent, question.row, question.start)
        )


def marked_text(pieces: Sequence[str], marked: Sequence[bool], opening: str = "«", closing: str = "»") -> str:
    """The text with marks around each run of marked tokens."""
    parts = []
    for i, piece in enumerate(pieces):
        if marked[i] and not (i and marked[i - 1]):
            parts.append(opening)
        parts.append(piece)
        if marked[i] and not (i + 1 < len(pieces) and marked[i + 1]):
            parts.append(closing)
    return "".join(parts)
