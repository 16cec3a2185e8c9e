"""What one kind of explanations says of texts that no other stage has seen: the language model is asked anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from nlsim.calibrate.posterior import Posterior
from nlsim.calibrate.signals import Signals, read_signals
from nlsim.continuations.conditions import Predicted
from nlsim.explain.table import read_explanations
from nlsim.lm.prompts import PromptTree
from nlsim.reconstruct.conditions import with_policy
from nlsim.simulate.pool import only
from nlsim.simulate.prompts import Text, simulation_prompts
from nlsim.simulate.texts import shown_texts

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.corpus.pieces import Pieces
    from nlsim.lm.config import LmConfig
    from nlsim.lm.engine import Engine
    from nlsim.store.artifact import Artifact

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]


class Unread(NamedTuple):
    """A text to be predicted: T tokens, S = T - 1 steps. Predicted are all tokens but BOS and the last."""

    tokens: Ints
    truth_SL: Float32
    """True activations of the latents under study."""


class Predictor:
    """The language model, prompts, and calibration of a kind, as its own stages have them.

    Where the kind asks about a sample only (`simulate.pool`), so does this: about the active latents of each token and
    so many others. Its answers are then taken as they come, and it has no values.
    """

    def __init__(self, config: Config, inputs: Mapping[str, Artifact], pieces: Pieces) -> None:
        """`config` and `inputs`: as the kind sees them."""
        self._config, self._pieces = config, pieces
        explanations = read_explanations(inputs["explain"])
        self._explained_L = np.array([one.status == "ok" for one in explanations])
        self._texts = shown_texts((one for one in explanations if one.status == "ok"), config.simulate, inputs)
        self.calibrated = config.simulate.pool is None
        if self.calibrated:
            self._mean_L = np.asarray(inputs["calibrate"].arrays(0, "latents")["mean"], np.float64)
            self._posterior = Posterior.from_arrays(inputs["calibrate"].arrays(0, "posterior"))

    def __call__(self, texts: Sequence[Unread], progress: Callable[[int, int, str], None]) -> list[Predicted]:
        """Predictions for some texts, in one pass over the explanations."""
        shown = [self._shown(text.tokens) for text in texts]
        asked_LR = np.concatenate([self._asked(text).T for text in texts], axis=1)
        signals = self._signals([part for parts in shown for part in parts], asked_LR, progress)
        if self.calibrated:
            probability_LR, value_LR = self._posterior.probability(signals), self._posterior.values(signals)
        else:
            probability_LR, value_LR = expit(signals.odds_LR), np.full_like(signals.odds_LR, np.nan)
        edges = np.cumsum([0, *(len(text.tokens) - 2 for text in texts)])
        parts = [slice(start, stop) for start, stop in pairwise(edges.tolist())]
        return [
            self._placed(text, probability_LR[:, part].T, value_LR[:, part].T)
            for text, part in zip(texts, parts, strict=True)
        ]

    def _placed(self, text: Unread, probability_RE: Float32, value_RE: Float32) -> Predicted:
        """Predictions of the explained latents among those of all latents and steps."""
        probability_SL, value_SL = np.full_like(text.truth_SL, np.nan), np.zeros_like(text.truth_SL)
        probability_SL[1:, self._explained_L] = probability_RE
        value_SL[1:, self._explained_L] = value_RE
        if self.calibrated:
            policy = self._config.reconstruct.unexplained
            value_SL = with_policy(value_SL, self._explained_L, policy, self._mean_L, text.truth_SL)
        return Predicted(probability_SL, value_SL)

    def _shown(self, tokens: Ints) -> list[Text]:
        """A text as the kind's prompts take it: whole, or once per token where only the last token of one is read."""
        pieces, settings = self._pieces.strings(tokens[1:-1]), self._config.simulate
        if settings.positions == "all":
            return [Text(pieces, range(len(pieces)))]
        longest = settings.window or len(pieces)
        parts = [pieces[max(0, end - longest) : end] for end in range(1, len(pieces) + 1)]
        return [Text(part, [len(part) - 1]) for part in parts]

    def _asked(self, text: Unread) -> Bool:
        """[reads, explained latents]: what is asked about. Others than the active latents are drawn by (seed, step)."""
        active_RE = text.truth_SL[1:, self._explained_L] > 0
        if self.calibrated:
            return np.ones_like(active_RE)
        count, explained = self._config.simulate.pool or 0, active_RE.shape[1]
        for step, active_E in enumerate(active_RE):
            order = np.random.default_rng([self._config.seed, step, 13]).permutation(explained)
            active_E[order[~active_E[order]][:count]] = True
        return active_RE

    def _signals(self, texts: Sequence[Text], asked_LR: Bool, progress: Callable[[int, int, str], None]) -> Signals:
        lm = self._config.language_model("simulate")
        engine = cached_engine(lm)
        prompts = simulation_prompts(self._config.simulate, lm, engine, texts)
        trees = prompts.trees(self._texts)
        some: Iterator[PromptTree] = (
            tree if asked_R.all() else only(tree, np.flatnonzero(asked_R))
            for tree, asked_R in zip(trees, asked_LR, strict=True)
            if asked_R.any()
        )
        logprobs_LRC = np.full((*asked_LR.shape, len(prompts.choices)), np.nan, np.float16)  # as `simulate` stores them
        wanted = np.flatnonzero(asked_LR.any(1))
        for done, (i, answer) in enumerate(zip(wanted, engine.choose(some, prompts.choices), strict=True)):
            logprobs_LRC[i, asked_LR[i]] = answer.logprobs_RC
            progress(done + 1, len(wanted), "latents")
        return read_signals(logprobs_LRC, self._config.calibrate.least_mass)


def cached_engine(lm: LmConfig) -> Engine:
    """The language model, loaded once for all shards that one process computes."""
    return _engine(lm.model_dump_json())


@lru_cache(maxsize=1)
def _engine(settings: str) -> Engine:
    from nlsim.lm.config import LmConfig
    from nlsim.lm.engine import load_engine

    return load_engine(LmConfig.model_validate_json(settings))
