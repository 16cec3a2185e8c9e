"""The subject on a text under several conditions, which share its clean beginning and its true code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nlsim.reconstruct.patch import coder_input, dense

if TYPE_CHECKING:
    from nlsim.coders.coder import Coder
    from nlsim.subject.model import State, Subject

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


class Steps(NamedTuple):
    """What a run makes of a text of T tokens in S = T - 1 steps: step s reads tokens 0 … s and predicts token s + 1."""

    kl_S: Float32
    """KL(clean ‖ this run) of the next-token distributions, nats."""
    chosen_S: Ints
    """The token this run would write."""
    given_S: Float32
    """Probability of the token that comes in the text."""
    likeliest_SK: Ints
    """The K likeliest tokens, likeliest first."""
    probability_SK: Float32

    def first(self, steps: int) -> Steps:
        """The first steps: what they are does not depend on what follows."""
        return Steps(**{name: column[:steps] for name, column in self._asdict().items()})


class Reading(NamedTuple):
    """A text read by the subject as it is, up to the hookpoint."""

    tokens: Ints
    state: State
    code_SM: Tensor
    """True activations of all latents of the coder, at all tokens but the last; those of BOS are 0."""
    read_SD: Tensor
    """What the coder reads there."""
    truth_SL: Float32
    """True activations of the latents under study."""


class Choice(NamedTuple):
    """How a token is chosen from a distribution: the likeliest, or a sample by shared random numbers (Gumbel-max)."""

    temperature: float
    seed: tuple[int, ...]

    def noise(self, step: int, vocabulary: int) -> Float32:
        """What is added to the logits at a step: it depends on (seed, step) alone. Zeros at temperature 0."""
        if self.temperature == 0:
            return np.zeros(vocabulary, np.float32)
        noise = np.random.default_rng([*self.seed, step]).gumbel(size=vocabulary)
        return (self.temperature * noise).astype(np.float32)


class Patcher:
    """Runs the subject with the hooked module's output rebuilt from codes, at every token but BOS."""

    def __init__(self, subject: Subject, coder: Coder, latents: Ints, choice: Choice, likeliest: int) -> None:
        self.subject, self.coder, self.choice, self.likeliest = subject, coder, choice, likeliest
        self._columns_L = torch.tensor(latents, device=subject.device)

    @torch.no_grad()
    def read(self, tokens: Ints) -> Reading:
        """The true code of a text, encoded in the run itself."""
        state = self.subject.start(tokens[None], np.array([len(tokens)]), self.coder.meta.hookpoint)
        read_SD = coder_input(self.coder, state)[0, :-1].float()
        code_SM = dense(self.coder.encode(read_SD), self.coder.meta.width)
        code_SM[0] = 0
        return Reading(tokens, state, code_SM, read_SD, code_SM[:, self._columns_L].cpu().numpy())

    @torch.no_grad()
    def run(self, reading: Reading, codes: Sequence[Float32]) -> list[Steps]:
        """Steps of the clean run, then with each of `codes` ([S, L] activations of the latents under study)."""
        clean_SV = self.subject.logits(self.subject.finish_hidden(reading.state)[0, :-1])
        noise = [self.choice.noise(step, clean_SV.shape[1]) for step in range(len(clean_SV))]
        noise_SV = torch.from_numpy(np.array(noise)).to(clean_SV.device)
        target_S1 = torch.from_numpy(reading.tokens[1:, None]).to(clean_SV.device)
        found = [self._steps(clean_SV, clean_SV, noise_SV, target_S1)]
        if len(codes):
            outputs_C1TD = torch.stack([self._output(reading, code_SL) for code_SL in codes])
            hidden_CSD = self.subject.finish_hidden(reading.state, outputs_C1TD)[:, 0, :-1]
            logits = (self.subject.logits(hidden_SD) for hidden_SD in hidden_CSD)
            found += [self._steps(logits_SV, clean_SV, noise_SV, target_S1) for logits_SV in logits]
        return found

    def _output(self, reading: Reading, code_SL: Float32) -> Tensor:
        """[1, T, D] of the hooked module: rebuilt at all tokens but BOS and the last, which nothing here depends on."""
        code_SM = reading.code_SM.clone()
        code_SM[:, self._columns_L] = torch.tensor(code_SL, device=code_SM.device)
        patched_BTD = reading.state.captured.output_BTD.clone()
        rebuilt_SD = self.coder.decode_dense(code_SM, reading.read_SD)
        patched_BTD[0, 1:-1] = rebuilt_SD[1:].to(patched_BTD.dtype)
        return patched_BTD

    def _steps(self, logits_SV: Tensor, clean_SV: Tensor, noise_SV: Tensor, target_S1: Tensor) -> Steps:
        own_SV, reference_SV = logits_SV.log_softmax(-1), clean_SV.log_softmax(-1)
        kl_S = (reference_SV.exp() * (reference_SV - own_SV)).sum(-1).clamp_min(0)
        top = own_SV.exp().topk(min(self.likeliest, own_SV.shape[1]), dim=1)
        columns = (
            kl_S,
            (logits_SV + noise_SV).argmax(-1),
            own_SV.gather(1, target_S1).squeeze(1).exp(),
            top.indices,
            top.values,
        )
        return Steps(*(column.cpu().numpy() for column in columns))
