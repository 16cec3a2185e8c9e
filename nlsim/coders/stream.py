"""Activations of many tokens as shuffled batches: captured in one pass over the subject, for all hookpoints at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlsim.errors import DataError
from nlsim.subject.hookpoints import Tap
from nlsim.subject.model import Subject
from nlsim.subject.taps import EarlyExit, recording, tensor_of

Block = Mapping[Tap, Tensor]
"""Activations [N, D] of the same N tokens at several places."""

DISK_BLOCK = 2048  # tokens read from disk together


def capture_blocks(
    subject: Subject,
    tokens_RT: NDArray[np.int32],
    length_R: NDArray[np.int32],
    taps: Iterable[Tap],
    outlier_norm: float = float("inf"),
) -> Iterator[Block]:
    """Activations of the tokens of some rows, by one early-exit forward pass per batch of rows, however many taps.

    Left out are position 0, which holds BOS and is unlike any other, and tokens whose norm at one of the taps is more
    than `outlier_norm` times the median of their row: a few of those would outweigh everything else in a squared error.
    """
    names = {str(number): tap for number, tap in enumerate(dict.fromkeys(taps))}
    rows = max(1, subject.batch_tokens // tokens_RT.shape[1])
    for start in range(0, len(tokens_RT), rows):
        length_B = torch.from_numpy(length_R[start : start + rows].astype(np.int64)).to(subject.device)
        longest = int(length_B.max())
        ids_BT = torch.from_numpy(tokens_RT[start : start + rows, :longest].astype(np.int64)).to(subject.device)
        with torch.no_grad(), recording(subject.decoder, names) as seen, suppress(EarlyExit):
            subject.decoder(input_ids=ids_BT, use_cache=False)
        place_T = torch.arange(longest, device=subject.device)
        used_BT = (place_T < length_B[:, None]) & (place_T > 0)
        found = {tap: tensor_of(seen[name]) for name, tap in names.items()}
        for x_BTD in found.values():
            norm_BT = x_BTD.float().norm(dim=2)
            middle_B1 = norm_BT.where(used_BT, torch.nan).nanmedian(1, keepdim=True).values
            used_BT = used_BT & (norm_BT <= outlier_norm * middle_B1)
        yield {tap: x_BTD[used_BT] for tap, x_BTD in found.items()}


def shuffled(
    blocks: Iterable[Block], batch: int, capacity: int, generator: torch.Generator
) -> Iterator[dict[Tap, Tensor]]:
    """Batches of `batch` tokens in random order. Up to about `capacity` tokens wait in memory; whenever there are that
    many, they are shuffled and half of them given out. What does not fill a last batch is dropped."""
    pool: list[Block] = []
    waiting = 0
    for block in blocks:
        pool.append(block)
        waiting += _tokens(block)
        if waiting >= max(capacity, 2 * batch):
            mixed = _mixed(pool, generator)
            given = waiting // 2 // batch * batch
            yield from _cut(mixed, given, batch)
            pool = [{tap: x_ND[given:].clone() for tap, x_ND in mixed.items()}]
            waiting -= given
    if pool:
        yield from _cut(_mixed(pool, generator), waiting // batch * batch, batch)


class Spool:
    """Activations kept on disk in float16, so that several epochs cost one pass over the subject."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokens = 0
        self.arrays: dict[Tap, NDArray[np.float16]] = {}

    def fill(self, blocks: Iterable[Block], capacity: int, on_block: Callable[[int], None]) -> None:
        """Store at most `capacity` tokens; `on_block` is told how many there are. Raises DataError beyond float16."""
        for block in blocks:
            taken = min(_tokens(block), capacity - self.tokens)
            for tap, x_ND in block.items():
                if tap not in self.arrays:
                    path = self.folder / f"{len(self.arrays)}.npy"
                    shape = (capacity, x_ND.shape[1])
                    self.arrays[tap] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
                half_ND = x_ND[:taken].half()
                if not torch.isfinite(half_ND).all():
                    raise DataError(f"activations at {tap.module} do not fit into float16", "train with one epoch")
                self.arrays[tap][self.tokens : self.tokens + taken] = half_ND.cpu().numpy()
            self.tokens += taken
            on_block(self.tokens)
            if self.tokens == capacity:
                return

    def blocks(self, generator: torch.Generator, device: torch.device) -> Iterator[Block]:
        """All stored tokens in pieces of neighbouring tokens, the pieces in random order."""
        count = -(-self.tokens // DISK_BLOCK)
        for number in torch.randperm(count, generator=generator).tolist():
            part = slice(number * DISK_BLOCK, min((number + 1) * DISK_BLOCK, self.tokens))
            yield {tap: torch.from_numpy(array[part].copy()).to(device) for tap, array in self.arrays.items()}


def _tokens(block: Block) -> int:
    return len(next(iter(block.values())))


def _mixed(pool: Sequence[Block], generator: torch.Generator) -> dict[Tap, Tensor]:
    order = torch.randperm(sum(map(_tokens, pool)), generator=generator)
    return {tap: torch.cat([block[tap] for block in pool])[order.to(pool[0][tap].device)] for tap in pool[0]}


def _cut(block: Block, tokens: int, batch: int) -> Iterator[dict[Tap, Tensor]]:
    for start in range(0, tokens, batch):
        yield {tap: x_ND[start : start + batch] for tap, x_ND in block.items()}
