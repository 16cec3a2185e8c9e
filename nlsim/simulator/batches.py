"""Training batches: some latents, each with an explanation and some windows of the half it was not explained from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nlsim.simulator.material import Activity, Example, Texts, varied, wording
from nlsim.simulator.model import Batch
from nlsim.simulator.text import ANSWER, MARK, PAD, Ints, SimulatorText, Task

CONTEXT = 32
"""Tokens of a context in detection and fuzzing."""


class Questions(NamedTuple):
    """A batch and its answers."""

    batch: Batch
    read_R: Tensor
    """Flat indices into [E, W, T] of the tokens after which a digit is read."""
    target_R: Tensor
    """Strength 0 to 9 at each read."""
    latent_R: Tensor
    """Which of the batch's explanations each read belongs to."""


def pad_left(rows: list[Ints], fill: int) -> tuple[Tensor, Tensor]:
    """Rows as one tensor, padded on the left, and their lengths."""
    longest = max(map(len, rows))
    padded = np.full((len(rows), longest), fill)
    for i, row in enumerate(rows):
        padded[i, longest - len(row) :] = row
    return torch.from_numpy(padded), torch.tensor([len(row) for row in rows])


def strengths(texts: Texts, activity: Activity, row: int) -> npt.NDArray[np.float32]:
    """Strength at every usable token of a row."""
    start, stop = texts.first_R[row], texts.first_R[row + 1]
    low, high = np.searchsorted(activity.place_A, [start, stop])
    dense = np.zeros(stop - start, np.float32)
    dense[activity.place_A[low:high] - start] = activity.strength_A[low:high]
    return dense


def simulation(
    texts: Texts, text: SimulatorText, prefixes: list[Ints], activities: list[Activity], rows_EW: Ints
) -> Questions:
    """Simulation of each latent on its rows."""
    windows = [texts.windows[row] for row in rows_EW.reshape(-1)]
    owners = np.repeat(np.arange(len(activities)), rows_EW.shape[1])
    targets = [strengths(texts, activities[e], int(row)) for e, row in zip(owners, rows_EW.reshape(-1), strict=True)]
    return _assembled(text, prefixes, [(window.tokens, window.ends) for window in windows], targets)


def scoring(
    texts: Texts,
    text: SimulatorText,
    prefixes: list[Ints],
    activities: list[Activity],
    rows_EW: Ints,
    task: Task,
    rng: np.random.Generator,
) -> Questions:
    """Detection or fuzzing of each latent on windows of its rows; the answer, 0 or 1, is read after `<|answer|>`."""
    asked, targets = [], []
    for e, rows_W in enumerate(rows_EW):
        for row in rows_W:
            made = _question(texts, text, activities[e], int(row), task, rng)
            asked.append((made.tokens, made.ends))
            targets.append(np.array([made.answer], np.float32))
    return _assembled(text, prefixes, asked, targets)


class _Asked(NamedTuple):
    tokens: Ints
    ends: Ints
    answer: float


def _question(
    texts: Texts, text: SimulatorText, activity: Activity, row: int, task: Task, rng: np.random.Generator
) -> _Asked:
    """A window of up to `CONTEXT` tokens of a row, around an active token where the row has one."""
    strength = strengths(texts, activity, row)
    window = texts.windows[row]
    active = np.flatnonzero(strength)
    centre = int(rng.choice(active)) if len(active) and rng.random() < 0.7 else int(rng.integers(len(strength)))
    start = int(np.clip(centre - rng.integers(CONTEXT), 0, max(len(strength) - CONTEXT, 0)))
    stop = min(start + CONTEXT, len(strength))
    inside = strength[start:stop] > 0
    marked = np.zeros(len(inside), np.bool_)
    answer = bool(inside.any())
    if task is Task.FUZZ:
        strong = strength[start:stop] >= 0.3 * strength[start:stop].max(initial=0.25)
        idle = np.flatnonzero(~inside)
        answer = answer and rng.random() < 0.5
        count = max(int(strong.sum()), 1)
        if answer or not len(idle):
            marked = strong
        else:
            marked[rng.choice(idle, min(count, len(idle)), replace=False)] = True
    starts = np.concatenate([[0], window.ends[:-1] + 1])
    tokens: list[int] = []
    for place in range(start, stop):
        if marked[place - start]:
            tokens.append(text.special[MARK])
        tokens += window.tokens[starts[place] : window.ends[place] + 1].tolist()
    tokens.append(text.special[ANSWER])
    return _Asked(np.array(tokens, np.int64), np.array([len(tokens) - 1]), float(answer))


def _assembled(
    text: SimulatorText,
    prefixes: list[Ints],
    windows: list[tuple[Ints, Ints]],
    targets: list[npt.NDArray[np.float32]],
) -> Questions:
    """Windows, the same number for each prefix, as one batch; each is (tokens, offsets to read at)."""
    prefix_EP, length_E = pad_left(prefixes, text.special[PAD])
    longest = max(len(tokens) for tokens, _ in windows)
    padded = np.full((len(windows), longest), text.special[PAD])
    for b, (tokens, _) in enumerate(windows):
        padded[b, : len(tokens)] = tokens
    each = len(windows) // len(prefixes)
    reads = [ends + b * longest for b, (_, ends) in enumerate(windows)]
    owners = np.repeat(np.arange(len(windows)) // each, [len(ends) for _, ends in windows])
    return Questions(
        Batch(prefix_EP, length_E, torch.from_numpy(padded.reshape(len(prefixes), each, longest))),
        torch.from_numpy(np.concatenate(reads)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(owners),
    )


def draw(
    texts: Texts, text: SimulatorText, examples: list[Example], windows: int, task: Task, rng: np.random.Generator
) -> Questions:
    """A batch about `examples`, freshly worded, on random rows of the half each is predicted on."""
    place = rng.random()  # all windows of a batch are of like length: padding is wasted work
    bands = []
    for rows in texts.by_length:
        size = max(windows, len(rows) // 6)
        start = int(place * max(len(rows) - size, 0))
        bands.append(rows[start : start + size])
    chosen = np.stack([rng.choice(bands[example.half], windows, replace=False) for example in examples])
    prefixes = [text.prefix(task, wording(varied(example.rules, rng), texts.reading, rng)) for example in examples]
    activities = [example.activity for example in examples]
    if task is Task.SIMULATE:
        return simulation(texts, text, prefixes, activities, chosen)
    return scoring(texts, text, prefixes, activities, chosen, task, rng)


def soft_digits(target_R: Tensor) -> Tensor:
    """[R, 10] distributions on the two digits next to each strength, with the strength as their mean."""
    low = target_R.floor().clamp(max=8)
    high_share = target_R - low
    soft = torch.zeros(len(target_R), 10)
    soft.scatter_(1, low.long()[:, None], (1 - high_share)[:, None])
    return soft.scatter_add_(1, low.long()[:, None] + 1, high_share[:, None])
