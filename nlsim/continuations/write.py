"""Texts that conditions write themselves, exact, in few rounds.

One token after the other would cost too much where a language model has to predict all latents for every new token. So
a text is drafted by the clean model, read whole by the patched one, and kept up to the first token that the patched one
would have chosen otherwise; its own choice follows, and a new draft (speculative decoding, Leviathan et al. 2023, with
exact match instead of acceptance by chance). The result is the text that the patched subject writes token by token; a
round costs one pass, and there are as many as there are differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nlsim.continuations.conditions import CLEAN, Condition, Predicted
from nlsim.continuations.patched import Choice, Steps

if TYPE_CHECKING:
    from nlsim.subject.model import Subject

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


class Judged(NamedTuple):
    """A text as some conditions read it: T tokens, S = T - 1 steps."""

    tokens: Ints
    truth_SL: Float32
    predicted: Predicted | None
    steps: Mapping[Condition, Steps]
    """Always with CLEAN."""

    def ending(self, steps: int, token: int) -> Judged:
        """The text of the first steps with `token` as its last."""
        return Judged(
            np.append(self.tokens[:steps], token),
            self.truth_SL[:steps],
            None if self.predicted is None else Predicted(*(array[:steps] for array in self.predicted)),
            {condition: found.first(steps) for condition, found in self.steps.items()},
        )


Judge = Callable[[Mapping[Condition, Ints]], Mapping[Condition, Judged]]
"""Lets each condition read a text."""


class Draft:
    """The clean model's continuations, up to `longest` tokens or a special one."""

    def __init__(self, subject: Subject, choice: Choice, longest: int, special: frozenset[int]) -> None:
        self._subject, self._choice, self._longest, self._special = subject, choice, longest, special

    def ended(self, tokens: Ints) -> bool:
        """Whether nothing may follow."""
        return len(tokens) >= self._longest or int(tokens[-1]) in self._special

    @torch.no_grad()
    def __call__(self, beginnings: Sequence[Ints]) -> list[Ints]:
        """Continue each beginning with a key-value cache. Rows of unequal length are padded on the left, so now and
        then rounding decides between two tokens otherwise than in an unpadded run: a draft, not yet a result."""
        if not beginnings:
            return []
        subject = self._subject
        start = max(len(tokens) for tokens in beginnings)
        ids_BT = np.zeros((len(beginnings), start), np.int64)
        mask_BT = np.zeros_like(ids_BT)
        for row, tokens in enumerate(beginnings):
            ids_BT[row, start - len(tokens) :], mask_BT[row, start - len(tokens) :] = tokens, 1
        written = [tokens.tolist() for tokens in beginnings]
        cache: Any = None
        fed_BT = torch.from_numpy(ids_BT).to(subject.device)
        mask = torch.from_numpy(mask_BT).to(subject.device)
        while not all(self.ended(np.array(tokens)) for tokens in written):
            place_BT = (mask.cumsum(1) - 1).clamp_min(0)[:, -fed_BT.shape[1] :]
            out = subject.model(
                input_ids=fed_BT,
                attention_mask=mask,
                position_ids=place_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache, logits_BV = out.past_key_values, out.logits[:, -1].float().cpu().numpy()
            chosen = [
                int(np.argmax(logits_V + self._choice.noise(len(tokens) - 1, len(logits_V))))
                for logits_V, tokens in zip(logits_BV, written, strict=True)
            ]
            for tokens, token in zip(written, chosen, strict=True):
                if not self.ended(np.array(tokens)):
                    tokens.append(token)
            fed_BT = torch.tensor(chosen, device=subject.device)[:, None]
            mask = torch.cat([mask, mask.new_ones(len(chosen), 1)], 1)
        return [np.array(tokens, np.int64) for tokens in written]


def write(first: Mapping[Condition, Judged], begun: int, judge: Judge, draft: Draft) -> dict[Condition, Judged]:
    """The text that each condition writes after the `begun` tokens of the prompt, as it reads it itself.

    `first`: any text with that prompt, read by each condition.
    """
    done: dict[Condition, Judged] = {}
    waiting = {condition: (judged, begun) for condition, judged in first.items()}
    while waiting:
        beginnings: dict[Condition, Ints] = {}
        for condition, (judged, since) in waiting.items():
            cut = first_difference(judged.tokens, judged.steps[condition].chosen_S, since)
            if cut is None:
                done[condition] = judged
                continue
            ended = judged.ending(cut, int(judged.steps[condition].chosen_S[cut - 1]))
            if draft.ended(ended.tokens):
                done[condition] = ended
            else:
                beginnings[condition] = ended.tokens
        drafts = dict(zip(beginnings, draft(list(beginnings.values())), strict=True))
        read = judge(drafts) if drafts else {}
        waiting = {condition: (judged, len(beginnings[condition])) for condition, judged in read.items()}
    return done


def first_difference(tokens: Ints, chosen_S: Ints, since: int) -> int | None:
    """The first place from `since` on at which the text is not what was chosen; None where there is none."""
    differ = np.flatnonzero(tokens[since:] != chosen_S[since - 1 :])
    return since + int(differ[0]) if len(differ) else None


def clean_text(prompt: Ints, judge: Judge, draft: Draft) -> Ints:
    """What the subject writes as it is."""
    first = judge({CLEAN: draft([prompt])[0]})
    return write(first, len(prompt), judge, draft)[CLEAN].tokens
