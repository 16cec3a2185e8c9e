"""Examples to learn simulation from: prompts exactly as they are at use, with the true answer at every read.

Windows come from the train split, where nothing is explained, scored, calibrated or evaluated. A share of its documents
and of the latents is held out: the held-out latents' windows in the held-out documents judge, every other latent's
windows in the other documents teach, and what is left over is not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split, unit_hash
from nlsim.errors import DataError, UsageError
from nlsim.lm.prompts import flatten
from nlsim.simulate.prompts import Text, simulation_prompts

if TYPE_CHECKING:
    import pyarrow

    from nlsim.config import Config
    from nlsim.corpus.pieces import Pieces
    from nlsim.latents.index import Activations, LatentIndex
    from nlsim.lm.config import LmConfig
    from nlsim.lm.templates import Tokenizer
    from nlsim.simulate.prompts import SimulationPrompts

Ints = npt.NDArray[np.int64]
Group = Literal["learn", "judge"]


class Example(NamedTuple):
    """One prompt."""

    latent: int
    document: int
    group: Group
    explanation: Literal["own", "other"]
    """`other`: another latent's, as a control."""
    tokens: Ints
    reads: Ints
    """Offsets into the tokens; the answer follows each."""
    answers: Ints
    """Which of the choices is right: a digit, or 1 for active."""


class _Speaker(NamedTuple):
    tokenizer: Tokenizer


def held_out(kind: str, name: object, share: float) -> bool:
    """Whether a latent or a document is held out: a hash of its name decides."""
    return unit_hash("finetune", kind, name) < share


class ExampleMaker:
    """Makes the examples of one latent at a time."""

    def __init__(
        self,
        config: Config,
        index: LatentIndex,
        pieces: Pieces,
        tokenizer: Tokenizer,
        document_R: Ints,
        names: Sequence[str],
    ) -> None:
        """`document_R`: document of each row, `names`: of each document. Raises UsageError when the train split was not
        cached, DataError when it has too few documents."""
        self._config, self._index, self._pieces = config, index, pieces
        self._lm: LmConfig = config.language_model("simulate")
        self._speaker = _Speaker(tokenizer)
        first, last = index.rows.block(Split.TRAIN)
        if "train" not in config.cache.splits or first == last:
            raise UsageError(
                "finetuning learns from the train split, which was not cached", "add train to cache.splits and its rows"
            )
        settings = config.finetune
        judging_D = np.array([held_out("document", name, settings.held_out) for name in names], bool)
        self._document_R = document_R
        rows = np.arange(first, last)
        judging = judging_D[document_R[rows]]
        self._rows: dict[Group, Ints] = {"learn": rows[~judging], "judge": rows[judging]}
        for group, mine in self._rows.items():
            if not len(mine):
                raise DataError(f"no document is left to {group} with", "raise corpus.rows.train")

    @property
    def choices(self) -> tuple[int, ...]:
        """The tokens that stand for the answers."""
        return self._prompts([Text(["x"], [0])]).choices

    def make(self, latent: int, own: str, other: str) -> Iterator[Example]:
        """The examples of a latent that is explained by `own`; `other` is another latent's explanation."""
        settings = self._config.finetune
        group: Group = "judge" if held_out("latent", latent, settings.held_out) else "learn"
        found = self._index.activations(latent, Split.TRAIN)
        rng = np.random.default_rng([self._config.seed, latent, 23])
        ends = self._ends(found, group, rng)
        if not len(ends):
            return
        texts, answers = zip(*(self._text(int(end), found, latent) for end in ends), strict=True)
        prompts = self._prompts(texts)
        shown: list[tuple[Literal["own", "other"], str]] = [("own", other if settings.shuffle else own)]
        if group == "judge":
            shown = [("own", own), ("other", other)]
        trees = prompts.trees([text for _, text in shown])
        for (explanation, _), tree in zip(shown, trees, strict=True):
            leaves = flatten(tree)
            for end, answer, (tokens, reads) in zip(ends, answers, leaves, strict=True):
                document = int(self._document_R[end // self._index.context])
                yield Example(latent, document, group, explanation, tokens, reads, answer)

    def _prompts(self, texts: Sequence[Text]) -> SimulationPrompts:
        return simulation_prompts(self._config.simulate, self._lm, self._speaker, texts)

    def _ends(self, found: Activations, group: Group, rng: np.random.Generator) -> Ints:
        """Global positions at which the windows of a latent end, in random order, each once."""
        settings, rows, index = self._config.finetune, self._rows[group], self._index
        active = found.token[np.isin(found.row, rows) & self._long_enough(found.token)]
        if not len(active):
            return np.empty(0, np.int64)
        chosen = [rng.permutation(active)[: settings.active]]
        near = round(settings.silent * settings.near)
        for count, among in ((near, np.unique(active // index.context)), (settings.silent - near, rows)):
            positions = index.rows.positions(among, first=1)
            silent = positions[~np.isin(positions, found.token) & self._long_enough(positions)]
            chosen.append(rng.permutation(silent)[:count])
        ends = np.unique(np.concatenate(chosen))
        if self._whole_rows:
            ends = ends[np.unique(ends // index.context, return_index=True)[1]]
        return rng.permutation(ends)

    @property
    def _whole_rows(self) -> bool:
        """Whether prompts show whole rows and read every token, wherever a window was to end."""
        return self._config.simulate.positions == "all" and self._config.simulate.window is None

    def _long_enough(self, at_N: Ints) -> npt.NDArray[np.bool_]:
        """Whether a window can end at a position."""
        shown = self._config.simulate.window
        row_N, position_N = np.divmod(at_N, self._index.context)
        return (position_N >= (1 if shown is None else shown)) & (position_N < self._index.rows.length_R[row_N] - 1)

    def _text(self, end: int, found: Activations, latent: int) -> tuple[Text, Ints]:
        """The window that ends at a position, and the right answers at its reads."""
        settings, index = self._config.simulate, self._index
        row, position = divmod(end, index.context)
        first = 1 if settings.window is None else position + 1 - settings.window
        if self._whole_rows:
            position = int(index.rows.length_R[row]) - 2  # as at use: the last token has no next one
        strings = self._pieces.strings(index.rows.tokens_RT[row, first : position + 1])
        reads = list(range(len(strings))) if settings.positions == "all" else [len(strings) - 1]
        at_N = row * index.context + first + np.array(reads)
        place_N = np.minimum(np.searchsorted(found.token, at_N), len(found.token) - 1)
        value_N = np.where(found.token[place_N] == at_N, found.value[place_N], 0)
        scale = float(index.table.robust_max_M[latent])
        return Text(strings, reads), answers_of(value_N, scale, settings.prompt)


def answers_of(value_N: npt.NDArray[np.floating], scale: float, prompt: str) -> Ints:
    """Right answers for activations: 0 where silent; else 1, or the nearest ninth of `scale`, from 1 to 9."""
    active_N = np.asarray(value_N) > 0
    if prompt == "binary":
        return active_N.astype(np.int64)
    digit_N = np.clip(np.round(9 * np.asarray(value_N, np.float64) / max(scale, 1e-12)), 1, 9)
    return np.where(active_N, digit_N, 0).astype(np.int64)


def example_table(examples: Sequence[Example]) -> pyarrow.Table:
    """Columns latent, document, group, explanation, tokens, reads, answers."""
    import pyarrow as pa

    types = (pa.int64(), pa.int64(), pa.string(), pa.string(), *[pa.list_(pa.int32())] * 3)
    columns = zip(*examples, strict=True) if examples else ([] for _ in Example._fields)
    return pa.table(
        {name: pa.array(list(column), kind) for name, kind, column in zip(Example._fields, types, columns, strict=True)}
    )


def read_examples(table: pyarrow.Table) -> list[Example]:
    """The examples of a table."""
    rows = zip(*(table.column(name).to_pylist() for name in Example._fields), strict=True)
    return [Example(*[*row[:4], *(np.array(column, np.int64) for column in row[4:])]) for row in rows]
