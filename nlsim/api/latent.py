"""One latent of a run: what is said of it, where it is active, what was predicted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nlsim.corpus.pieces import Pieces
from nlsim.corpus.splits import Split
from nlsim.errors import DataError, IncompleteError, UsageError
from nlsim.latents.contexts import ContextSampler
from nlsim.latents.index import LatentIndex

if TYPE_CHECKING:
    import pyarrow

    from nlsim.api.run import RunView
    from nlsim.latents.contexts import Contexts, Kind
    from nlsim.simulate.predictions import Predictions

LENGTH = 24
"""Tokens of a context."""


class Latents:
    """The latents of a run's coder. Any of them can be asked for; iterating gives those that the run explained."""

    def __init__(self, run: RunView) -> None:
        self.run = run

    @cached_property
    def index(self) -> LatentIndex:
        """Activations, latent by latent. Raises IncompleteError until `index` is done."""
        artifacts = [self.run.artifact(stage) for stage in ("tokens", "cache", "index")]
        for artifact in artifacts:
            artifact.require_complete()
        return LatentIndex(*artifacts)

    @cached_property
    def pieces(self) -> Pieces:
        """The text of every token."""
        return Pieces.of(self.run.artifact("tokens"))

    @cached_property
    def predictions(self) -> Predictions:
        """What was predicted, of all latents. Raises IncompleteError until `simulate` is done."""
        from nlsim.simulate.predictions import Predictions

        artifact = self.run.artifact("simulate")
        artifact.require_complete()
        return Predictions(artifact)

    @property
    def width(self) -> int:
        """How many the coder has."""
        return self.index.width

    @cached_property
    def explained(self) -> list[int]:
        """Those the run chose to explain, ascending."""
        return [int(latent) for latent in self.run.explanations.column("latent").to_pylist()]

    @cached_property
    def table(self) -> pyarrow.Table:
        """One row per latent of the coder: latent, density, mean, max, robust_max, decoder_norm, and the tokens and
        rows of each split in which it is active."""
        import pyarrow as pa

        known = self.index.table
        columns: dict[str, Any] = {"latent": np.arange(self.width), "density": known.density(), "mean": known.mean()}
        columns |= {"max": known.max_M, "robust_max": known.robust_max_M, "decoder_norm": known.decoder_norm_M}
        for split in Split:
            columns[f"tokens_{split.key}"] = known.active_MS[:, split]
            columns[f"rows_{split.key}"] = known.rows_MS[:, split]
        return pa.table(columns)

    def search(self, words: str) -> pyarrow.Table:
        """Explanations that hold `words`, whatever their case."""
        import pyarrow.compute as pc

        found = self.run.explanations
        return found.filter(pc.match_substring(found["text"], words, ignore_case=True)).select(["latent", "text"])

    def __getitem__(self, latent: int) -> Latent:
        """Raises UsageError for a number that the coder does not have."""
        if not 0 <= latent < self.width:
            raise UsageError(f"there is no latent {latent}", f"the coder has {self.width}, numbered from 0")
        return Latent(self, int(latent))

    def __iter__(self) -> Iterator[Latent]:
        return (Latent(self, latent) for latent in self.explained)

    def __len__(self) -> int:
        return len(self.explained)

    def __contains__(self, latent: object) -> bool:
        return latent in self.explained

    def __repr__(self) -> str:
        return f"<{len(self):,} explained latents of {self.width:,}>"


class Latent:
    """One latent. In a notebook it draws itself; `show` draws it in a terminal as well."""

    def __init__(self, latents: Latents, latent: int) -> None:
        self.latents, self.id = latents, latent

    @property
    def density(self) -> float:
        """Part of the cached tokens at which it is active."""
        return float(self.latents.index.table.density()[self.id])

    @property
    def robust_max(self) -> float:
        """99.9 % of its activations do not exceed it."""
        return float(self.latents.index.table.robust_max_M[self.id])

    @property
    def explanation(self) -> str | None:
        """What the run says of it; None where it has no explanation (yet)."""
        row = self._row()
        return str(row["text"]) if row is not None and row["status"] == "ok" else None

    @property
    def status(self) -> str:
        """`ok`, why there is no explanation (`failed`, `few`, `missing`), or `not chosen`."""
        row = self._row()
        return "not chosen" if row is None else str(row["status"])

    @property
    def scores(self) -> pyarrow.Table:
        """Its rows of `run.scores`."""
        return _rows_of(self.latents.run.scores, self.id)

    @property
    def examples(self) -> pyarrow.Table:
        """Its rows of `run.examples`: every question of a scorer with its answer."""
        return _rows_of(self.latents.run.examples, self.id)

    def activations(self, split: str | None = None) -> pyarrow.Table:
        """Every token at which it is active: token (global position), row, position, value."""
        import pyarrow as pa

        return pa.table(self.latents.index.activations(self.id, _split(split))._asdict())

    def contexts(
        self, count: int = 10, kind: Kind = "top", split: str = "explain", length: int = LENGTH, seed: int | None = None
    ) -> pyarrow.Table:
        """Windows of text in which it is active, strongest first.

        Columns: row, start (position in the row), target (offset of the token it was chosen for), quantile (rank of its
        strength, 0 the strongest), strength, tokens (their texts) and activations, a list each.
        """
        chosen = _split(split)
        if chosen is None:
            raise UsageError("contexts are of one split", f"choose one of {', '.join(s.key for s in Split)}")
        drawn = ContextSampler(self.latents.index, length, self.latents.run.config.seed if seed is None else seed).draw(
            self.id, chosen, count, kind
        )
        return _context_table(drawn, self.latents.pieces)

    def predictions(self) -> pyarrow.Table:
        """What was predicted from its explanation, and what is true, at every read.

        Columns: split, window, row, position, token (its text), true (activation), expected (digit, 0 to 9), mass
        (what the choices hold of the probability), and, once `calibrate` is done, value (posterior mean activation) and
        probability (of being active). Failed predictions are NaN. Raises DataError for a latent without predictions.
        """
        import pyarrow as pa

        from nlsim.calibrate.inputs import truth_at
        from nlsim.calibrate.signals import read_signals

        latents, predictions = self.latents, self.latents.predictions
        windows, index = predictions.windows, latents.index
        try:
            tile = predictions.of(self.id)
        except KeyError:
            reason = predictions.status.get(self.id, "not chosen")
            raise DataError(f"latent {self.id} has no predictions ({reason})", "see `run.latents.explained`") from None
        signals = read_signals(tile.logprobs_LRC, latents.run.config.calibrate.least_mass)
        split_R = windows.split_N[windows.window_R]
        columns: dict[str, Any] = {
            "split": [Split(split).key for split in split_R.tolist()],
            "window": windows.window_R,
            "row": windows.at_R // index.context,
            "position": windows.at_R % index.context,
            "token": _texts(latents.pieces, index.rows.ids(windows.at_R), windows.window_R),
            "true": truth_at(index, np.array([self.id]), windows.at_R)[0],
            "expected": signals.expected_LR[0],
            "mass": np.asarray(tile.mass_LR[0], np.float32),
        }
        calibrate = latents.run.artifact("calibrate")
        if calibrate.complete:
            from nlsim.calibrate.posterior import Posterior

            whole = Posterior.from_arrays(calibrate.arrays(0, "posterior"))
            mine = whole.of(int(np.searchsorted(predictions.latents, self.id)))
            columns |= {"value": mine.values(signals)[0], "probability": mine.probability(signals)[0]}
        return pa.table(columns)

    def show(self, contexts: int = 8) -> None:
        """Draw it: in a notebook as HTML, elsewhere on standard output."""
        from nlsim.api.draw import show

        show(self, contexts)

    def __repr__(self) -> str:
        return f"<latent {self.id}: {self.explanation or self.status}>"

    def _repr_html_(self) -> str:
        from nlsim.api.draw import card_of, html

        return html(card_of(self))

    def _row(self) -> dict[str, Any] | None:
        try:
            found = _rows_of(self.latents.run.explanations, self.id)
        except IncompleteError:
            return None
        row: dict[str, Any] | None = found.to_pylist()[0] if len(found) else None
        return row


def _rows_of(table: pyarrow.Table, latent: int) -> pyarrow.Table:
    import pyarrow.compute as pc

    return table.filter(pc.equal(table["latent"], latent))


def _split(name: str | None) -> Split | None:
    if name is None:
        return None
    known = {split.key: split for split in Split}
    if name not in known:
        raise UsageError(f"there is no split {name!r}", f"there are {', '.join(known)}")
    return known[name]


def _context_table(drawn: Contexts, pieces: Pieces) -> pyarrow.Table:
    import pyarrow as pa

    lengths = drawn.length_N.tolist()
    return pa.table(
        {
            "row": drawn.row_N,
            "start": drawn.start_N,
            "target": drawn.target_N,
            "quantile": drawn.quantile_N,
            "strength": drawn.strength_N,
            "tokens": pa.array(
                [pieces.strings(drawn.tokens_NL[n, :length]) for n, length in enumerate(lengths)], pa.list_(pa.string())
            ),
            "activations": pa.array(
                [drawn.activation_NL[n, :length].tolist() for n, length in enumerate(lengths)], pa.list_(pa.float32())
            ),
        }
    )


def _texts(pieces: Pieces, ids_R: Any, window_R: Any) -> list[str]:
    """The texts of the reads, window by window, so that characters of several tokens are put together."""
    starts = np.flatnonzero(np.diff(window_R, prepend=-1)).tolist()
    parts = [pieces.strings(ids_R[a:b]) for a, b in zip(starts, [*starts[1:], len(window_R)], strict=True)]
    return [text for part in parts for text in part]
