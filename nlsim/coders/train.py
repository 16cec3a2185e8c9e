"""Training of several coders together: one pass over the subject serves them all."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlsim.coders.coder import CoderMeta
from nlsim.coders.config import StreamConfig, TrainCoderConfig
from nlsim.coders.saelens_trainer import SaeLensTrainer
from nlsim.coders.sparse import SparseCoder
from nlsim.coders.stream import Block, Spool, capture_blocks, shuffled
from nlsim.coders.trainer import Pair, Trainer
from nlsim.errors import DataError
from nlsim.progress import Reporter
from nlsim.subject.hookpoints import Hookpoint, Tap
from nlsim.subject.model import Subject

SAMPLE_BATCHES = 16  # batches that scale, skip connection and first directions are taken from
SMOOTHING = 0.98  # of the FVU shown while training


class Job(NamedTuple):
    """One coder to train."""

    name: str
    hookpoint: Hookpoint
    config: TrainCoderConfig

    @property
    def taps(self) -> tuple[Tap, Tap]:
        """What it reads and what it rebuilds."""
        read = self.hookpoint.write if self.config.kind == "sae" else self.hookpoint.read
        return read, self.hookpoint.write


class Progress(NamedTuple):
    """The state of training at one step."""

    step: int
    steps: int
    fvu: dict[str, float]
    """Name of the job → smoothed fraction of variance unexplained."""
    dead: dict[str, int]
    """Name of the job → latents that have not fired for `dead_after` tokens."""


class Training:
    """Trains `jobs` on the given rows; iterate over it to carry it out step by step, then take `coders()`."""

    def __init__(
        self,
        subject: Subject,
        tokens_RT: NDArray[np.int32],
        length_R: NDArray[np.int32],
        jobs: Sequence[Job],
        config: StreamConfig,
        reporter: Reporter,
    ) -> None:
        """`tokens_RT`, `length_R`: rows that start with BOS, padded on the right."""
        self.subject, self.jobs, self.config, self.reporter = subject, jobs, config, reporter
        self.tokens_RT, self.length_R = tokens_RT, length_R
        self.trainers: dict[str, Trainer | SaeLensTrainer] = {}
        self.tokens = 0

    def __iter__(self) -> Iterator[Progress]:
        generator = torch.Generator().manual_seed(self.config.seed)
        with tempfile.TemporaryDirectory(prefix="nlsim-activations-") as folder:
            expected = min(self.config.tokens, int((self.length_R - 1).clip(0).sum()))
            if self.config.epochs == 1:
                blocks: Iterable[Block] = self._counted(self._captured(), expected)
                batches = shuffled(blocks, self.config.batch, self.config.buffer, generator)
            else:
                spool = Spool(Path(folder))
                spool.fill(self._captured(), expected, lambda n: self.reporter.update("capture", n, expected, "tokens"))
                self.reporter.finish("capture")
                self.tokens = expected = spool.tokens
                batches = self._epochs(spool, generator)
            yield from self._steps(batches, expected // self.config.batch * self.config.epochs)

    def coders(self) -> dict[str, SparseCoder]:
        """The coders as they stand, by name of their jobs."""
        return {name: trainer.coder() for name, trainer in self.trainers.items()}

    def _captured(self) -> Iterator[Block]:
        taps = chain.from_iterable(job.taps for job in self.jobs)
        return capture_blocks(self.subject, self.tokens_RT, self.length_R, taps, self.config.outlier_norm)

    def _counted(self, blocks: Iterable[Block], expected: int) -> Iterator[Block]:
        for block in blocks:
            taken = {tap: x_ND[: expected - self.tokens] for tap, x_ND in block.items()}
            self.tokens += len(next(iter(taken.values())))
            yield taken
            if self.tokens == expected:
                return

    def _epochs(self, spool: Spool, generator: torch.Generator) -> Iterator[dict[Tap, Tensor]]:
        for _ in range(self.config.epochs):
            blocks = spool.blocks(generator, self.subject.device)
            yield from shuffled(blocks, self.config.batch, self.config.buffer, generator)

    def _steps(self, batches: Iterator[dict[Tap, Tensor]], steps: int) -> Iterator[Progress]:
        first = list(islice(batches, SAMPLE_BATCHES))
        if not first:
            raise DataError(f"fewer than {self.config.batch} tokens to train on", "give more text or a smaller batch")
        for job in self.jobs:
            sample = Pair(*(torch.cat([batch[tap] for batch in first]).float() for tap in job.taps))
            self.trainers[job.name] = self._trainer(job, sample, steps)
        smooth: dict[str, float] = {}
        for step, batch in enumerate(chain(first, batches), 1):
            for job in self.jobs:
                fvu = self.trainers[job.name].step(Pair(*(batch[tap] for tap in job.taps)))
                smooth[job.name] = SMOOTHING * smooth.get(job.name, fvu) + (1 - SMOOTHING) * fvu
            self.reporter.update("train", step, steps, "steps")
            yield Progress(step, steps, dict(smooth), {name: t.dead for name, t in self.trainers.items()})
        self.reporter.finish("train")

    def _trainer(self, job: Job, sample: Pair, steps: int) -> Trainer | SaeLensTrainer:
        meta = self._meta(job, sample)
        if job.config.trainer == "saelens":
            return SaeLensTrainer(job.config, self.config, meta, sample, steps)
        return Trainer(job.config, meta, sample, steps)

    def _meta(self, job: Job, sample: Pair) -> CoderMeta:
        settings = job.config.model_dump(exclude={"trainer", "options"})
        notes = {**settings, **self.config.model_dump(), "seed": job.config.seed}
        activation = job.config.activation
        return CoderMeta(
            kind=job.config.kind,
            hookpoint=job.hookpoint.name,
            d_in=sample.input_ND.shape[1],
            d_out=sample.target_NO.shape[1],
            width=job.config.width,
            activation="jumprelu" if activation == "gated" else activation,  # which it is rewritten to
            k=job.config.k if "topk" in activation else None,
            skip=job.config.skip,
            subject=self.subject.config.model,
            training={name: notes[name] for name in sorted(notes)},
        )
