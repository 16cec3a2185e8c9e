"""Training batches: some latents, each with an explanation and some windows of the half it was not explained from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nlsim.simulator.material import Activity, Example, Texts, varied, wording
from nlsim.simulator.model import Batch
from nlsim.simulator.text import PAD, Ints, SimulatorText


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
    texts: Texts, text: SimulatorText, examples: list[Example], windows: int, rng: np.random.Generator
) -> Questions:
    """A batch about `examples`, freshly worded, on random rows of the half each is predicted on."""
    place = rng.random()  # all windows of a batch are of like length: padding is wasted work
    bands = []
    for rows in texts.by_length:
        size = max(windows, len(rows) // 6)
        start = int(place * max(len(rows) - size, 0))
        bands.append(rows[start : start + size])
    chosen = np.stack([rng.choice(bands[example.half], windows, replace=False) for example in examples])
    prefixes = [text.prefix(wording(varied(example.rules, rng), texts.reading, rng)) for example in examples]
    activities = [example.activity for example in examples]
    return simulation(texts, text, prefixes, activities, chosen)


def soft_digits(target_R: Tensor) -> Tensor:
    """[R, 10] distributions on the two digits next to each strength, with the strength as their mean."""
    low = target_R.floor().clamp(max=8)
    high_share = target_R - low
    soft = torch.zeros(len(target_R), 10)
    soft.scatter_(1, low.long()[:, None], (1 - high_share)[:, None])
    return soft.scatter_add_(1, low.long()[:, None] + 1, high_share[:, None])
