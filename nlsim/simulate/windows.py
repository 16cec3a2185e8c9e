"""Which texts are read and at which tokens activations are predicted: fixed per run, the same for every latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split, unit_hash
from nlsim.errors import DataError

if TYPE_CHECKING:
    from nlsim.latents.rows import TokenRows
    from nlsim.simulate.config import SimulateConfig

Ints = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """N windows of text with R reads. A read is a token whose activations are predicted; it has a next token in its
    row, so that its prediction can be judged by the subject's loss."""

    row_N: Ints
    start_N: Ints
    """First position shown, ≥ 1."""
    length_N: Ints
    """Tokens shown; the last one is read."""
    split_N: Ints
    window_R: Ints
    """Window of each read, ascending."""
    at_R: Ints
    """Global position (row · context + position) of each read, ascending inside a window."""

    def reads_of(self, split: Split) -> Ints:
        """Which reads belong to a split's windows."""
        return np.flatnonzero(self.split_N[self.window_R] == split)

    def offsets(self, window: int) -> Ints:
        """Reads of a window as offsets into its tokens."""
        first = np.searchsorted(self.window_R, [window, window + 1])
        return self.at_R[first[0] : first[1]] - self.at_R[first[1] - 1] + self.length_N[window] - 1


def choose_windows(rows: TokenRows, config: SimulateConfig, seed: int) -> Windows:
    """Windows on the first rows of the calibrate and the evaluate split.

    Without `window` a row is read from its first token on. With it, the window ends at a token drawn from a hash of
    (seed, row), so that it does not depend on which other rows are read or on any other random choice. Raises DataError
    for a split without a row long enough.
    """
    parts = []
    for split, count in ((Split.CALIBRATE, config.calibration_rows), (Split.EVALUATE, config.evaluation_rows)):
        first, last = rows.block(split)
        shortest = 1 + (config.window or 1)  # BOS, the window, and one token after it
        fitting = [row for row in range(first, last) if rows.length_R[row] > shortest][:count]
        if not fitting:
            raise DataError(
                f"no row of the {split.key} split has more than {shortest} tokens",
                f"raise corpus.rows.{split.key} or lower simulate.window",
            )
        parts += [(row, *_span(int(rows.length_R[row]), config.window, seed, row), int(split)) for row in fitting]
    row_N, start_N, length_N, split_N = (np.array(column, np.int64) for column in zip(*parts, strict=True))
    read_N = length_N if config.positions == "all" else np.ones_like(length_N)
    last_N = row_N * rows.context + start_N + length_N - 1
    window_R = np.repeat(np.arange(len(row_N)), read_N)
    back_R = np.concatenate([np.arange(count - 1, -1, -1) for count in read_N])
    return Windows(row_N, start_N, length_N, split_N, window_R, last_N[window_R] - back_R)


def _span(length: int, window: int | None, seed: int, row: int) -> tuple[int, int]:
    """Start and length of the text shown of a row of `length` tokens; its last token is not shown."""
    if window is None:
        return 1, length - 2
    starts = length - 1 - window
    return 1 + int(unit_hash("window", seed, row) * starts), window
