"""What a scorer of another package is (docs/plugins.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from nlsim.errors import DataError
from nlsim.plugins import load_plugin

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.score.questions import Question


class ScorerPlugin(Protocol):
    """Judges an explanation by contexts in which its latent is active and contexts in which it is silent."""

    asks: Literal["detection", "fuzzing"]
    """Which questions it wants: whether a context holds the feature, or whether the right tokens are marked."""

    def probabilities(self, explanation: str, questions: Sequence[Question]) -> npt.ArrayLike:
        """For each question the probability that the answer is yes, in [0, 1]; NaN where it could not tell."""


def load_scorer(name: str, config: Config) -> ScorerPlugin:
    """The scorer `plugin:NAME`, made from the run's configuration and `score.options`."""
    made: ScorerPlugin = load_plugin("nlsim.scorers", name)(config, config.score.options)
    return made


def judged(name: str, scorer: ScorerPlugin, explanation: str, questions: Sequence[Question]) -> npt.NDArray[np.float64]:
    """The scorer's probabilities. Raises DataError when they are not one per question, between 0 and 1."""
    said = np.asarray(scorer.probabilities(explanation, questions), np.float64)
    if said.shape != (len(questions),) or ((said < 0) | (said > 1)).any():
        raise DataError(f"{name} gave no probability per question", f"it gave shape {said.shape}; tell its author")
    return said
