"""Training: AdamW on batches in a seeded order. Stopped anywhere it carries on to the same bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from nlsim.errors import DataError

if TYPE_CHECKING:
    from nlsim.finetune.config import FinetuneConfig
    from nlsim.finetune.examples import Example
    from nlsim.finetune.lora import Tuned

STATE = "state.pt"


class Scratch(Protocol):
    """Where the state is kept between attempts; a shard's writer is one."""

    def keep(self, name: str, data: bytes) -> None:
        """Keep bytes for a later attempt."""

    def kept(self, name: str) -> bytes | None:
        """What an earlier attempt kept."""


class Point(NamedTuple):
    """One point of the loss curve; losses are means over answers, nats."""

    step: int
    learned: float
    """Over the batches since the last point."""
    judged: float
    """Over the held-out examples."""


def train(
    tuned: Tuned,
    examples: Sequence[Example],
    choices: Sequence[int],
    settings: FinetuneConfig,
    seed: int,
    scratch: Scratch,
    progress: Callable[[int, int], None],
) -> list[Point]:
    """Train the LoRA matrices in place and return the loss curve.

    The order of the examples and the dropout of a step depend on (seed, step) alone, so that training carried on from a
    kept state is training that never stopped. Raises DataError without examples of either group.
    """
    learn = [example for example in examples if example.group == "learn"]
    judge = [example for example in examples if example.group == "judge" and example.explanation == "own"]
    judge = judge[:: max(1, len(judge) // settings.judged)][: settings.judged]
    if not learn or not judge:
        raise DataError("there are no examples to learn from, or none to judge with", "choose more latents or rows")
    total = math.ceil(settings.epochs * len(learn) / settings.batch)
    total = min(total, settings.steps or total)
    optimiser = torch.optim.AdamW(tuned.trainable, lr=settings.learning_rate, weight_decay=0.0)
    step, learned, answered = 0, 0.0, 0
    curve: list[Point] = []
    if (kept := scratch.kept(STATE)) is not None:
        state = torch.load(io.BytesIO(kept), weights_only=True)
        tuned.load(state["weights"])
        optimiser.load_state_dict(state["optimiser"])
        step, learned, answered = state["step"], state["learned"], state["answered"]
        curve = [Point(*point) for point in state["curve"]]
    else:
        curve.append(Point(0, math.nan, judged_loss(tuned, judge, choices, settings)))
    tuned.model.train()
    for chosen in batches(len(learn), settings.batch, seed, step, total):
        progress(step, total)
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, total, settings.warmup)
        loss, answers = _learn(tuned, [learn[i] for i in chosen], choices, settings.micro_batch)
        torch.nn.utils.clip_grad_norm_(tuned.trainable, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step, learned, answered = step + 1, learned + loss, answered + answers
        if step % settings.judge_every == 0 or step == total:
            curve.append(Point(step, learned / answered, judged_loss(tuned, judge, choices, settings)))
            learned, answered = 0.0, 0
        if step % settings.save_every == 0:
            buffer = io.BytesIO()
            state = {
                "weights": tuned.state(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "learned": learned,
                "answered": answered,
                "curve": [list(point) for point in curve],
            }
            torch.save(state, buffer)
            scratch.keep(STATE, buffer.getvalue())
    progress(total, total)
    return curve


def batches(count: int, size: int, seed: int, first: int, total: int) -> Iterator[npt.NDArray[np.int64]]:
    """Members of the batches of steps `first` to `total`: passes in a random order each, cut into batches without
    regard to where a pass ends."""
    order, passes = np.empty(0, np.int64), 0
    for step in range(total):
        while len(order) < size:
            order = np.append(order, np.random.default_rng([seed, 29, passes]).permutation(count))
            passes += 1
        chosen, order = order[:size], order[size:]
        if step >= first:
            yield chosen


def schedule(step: int, total: int, warmup: float) -> float:
    """Share of the peak rate: up over the warm-up, then linearly to 0."""
    rising = max(1, round(warmup * total))
    return (step + 1) / rising if step < rising else max(0.0, (total - step) / max(1, total - rising))


@torch.no_grad()
def judged_loss(tuned: Tuned, judge: Sequence[Example], choices: Sequence[int], settings: FinetuneConfig) -> float:
    """Mean loss over held-out examples, without dropout."""
    tuned.model.eval()
    parts = [
        tuned.loss(judge[start : start + settings.micro_batch], choices)
        for start in range(0, len(judge), settings.micro_batch)
    ]
    tuned.model.train()
    return sum(float(loss) for loss, _ in parts) / sum(answers for _, answers in parts)


def _learn(tuned: Tuned, batch: list[Example], choices: Sequence[int], micro: int) -> tuple[float, int]:
    """Gradients of the mean loss of a batch; returns the summed loss and the number of answers."""
    batch = sorted(batch, key=lambda example: len(example.tokens))
    answers = sum(len(example.answers) for example in batch)
    total = 0.0
    for start in range(0, len(batch), micro):
        loss, _ = tuned.loss(batch[start : start + micro], choices)
        (loss / answers).backward()
        total += float(loss.detach())
    return total, answers
