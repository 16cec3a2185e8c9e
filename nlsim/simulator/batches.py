"""Training batches: some latents, each with an explanation and some windows of the half it was not explained from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nlsim.simulator.material import Activity, Example, Texts, varied, wording
from nlsim.simulator.model import Batch
from nlsim.simulator.text import SimulatorText, Task


class Questions(NamedTuple):
    """A batch and its answers."""

    batch: Batch
    read_R: Tensor
    """Flat indices into [E, W, T] of the tokens after which a digit is read."""
    target_R: Tensor
    """Strength 0 to 9 at each read."""
    latent_R: Tensor
    """Which of the batch's explanations each read belongs to."""


def pad_left(rows: list[npt.NDArray[np.int64]], fill: int) -> tuple[Tensor, Tensor]:
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
    texts: Texts,
    text: SimulatorText,
    prefixes: list[npt.NDArray[np.int64]],
    activities: list[Activity],
    rows_EW: npt.NDArray[np.int64],
) -> Questions:
    """Simulation of each latent on its rows."""
    prefix_EP, length_E = pad_left(prefixes, text.special["<|pad|>"])
    windows = [texts.windows[row] for row in rows_EW.reshape(-1)]
    longest = max(len(window.tokens) for window in windows)
    tokens = np.full((len(windows), longest), text.special["<|pad|>"])
    reads, targets, latents = [], [], []
    per = rows_EW.shape[1]
    for b, window in enumerate(windows):
        tokens[b, : len(window.tokens)] = window.tokens
        reads.append(window.ends + b * longest)
        targets.append(strengths(texts, activities[b // per], int(rows_EW.reshape(-1)[b])))
        latents.append(np.full(len(window.ends), b // per))
    window_EWT = torch.from_numpy(tokens.reshape(*rows_EW.shape, longest))
    return Questions(
        Batch(prefix_EP, length_E, window_EWT),
        torch.from_numpy(np.concatenate(reads)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(latents)),
    )


def draw(
    texts: Texts, text: SimulatorText, examples: list[Example], windows: int, rng: np.random.Generator
) -> Questions:
    """A simulation batch of `examples`, freshly worded, on random rows of the half each is predicted on."""
    rows = [np.flatnonzero(texts.half_R == half) for half in (0, 1)]
    chosen = np.stack([rng.choice(rows[example.half], windows, replace=False) for example in examples])
    prefixes = [
        text.prefix(Task.SIMULATE, wording(varied(example.rules, rng), texts.reading, rng)) for example in examples
    ]
    return simulation(texts, text, prefixes, [example.activity for example in examples], chosen)


def soft_digits(target_R: Tensor) -> Tensor:
    """[R, 10] distributions on the two digits next to each strength, with the strength as their mean."""
    low = target_R.floor().clamp(max=8)
    high_share = target_R - low
    soft = torch.zeros(len(target_R), 10)
    soft.scatter_(1, low.long()[:, None], (1 - high_share)[:, None])
    return soft.scatter_add_(1, low.long()[:, None] + 1, high_share[:, None])
