"""What is continued: texts of the configuration, then beginnings of held-out documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nlsim.corpus.splits import Split

if TYPE_CHECKING:
    from nlsim.continuations.config import ContinuationsConfig
    from nlsim.store.artifact import Artifact
    from nlsim.subject.model import Subject

Ints = npt.NDArray[np.int64]


class Prompt(NamedTuple):
    """The beginning of a text."""

    tokens: Ints
    """BOS first."""
    source: str
    """Name of the document; empty for a text of the configuration."""


def find_prompt(number: int, config: ContinuationsConfig, tokens: Artifact, subject: Subject) -> Prompt | None:
    """Prompt `number` of the run; None where the evaluate split has too few rows for it."""
    from nlsim.subject.tokenizer import bos_token, encode

    if number < len(config.prompts):
        text = encode(subject.tokenizer, [config.prompts[number]])[0]
        return Prompt(np.array([bos_token(subject.tokenizer), *text], np.int64), "")
    rows = tokens.arrays(0, "rows")
    chosen = spread_rows(rows["split"], rows["length"], rows["document"], config.prompt_tokens)
    place = number - len(config.prompts)
    if place >= len(chosen):
        return None
    row = int(chosen[place])
    names = tokens.table(0, "documents").column("name").to_pylist()
    start = np.asarray(rows["tokens"][row, : config.prompt_tokens + 1], np.int64)
    return Prompt(start, str(names[int(rows["document"][row])]))


def spread_rows(
    split_R: npt.NDArray[np.integer], length_R: npt.NDArray[np.integer], document_R: npt.NDArray[np.integer], room: int
) -> Ints:
    """Rows of the evaluate split with more than `room` tokens of text, in an order in which no document comes again
    before every other one came as often."""
    row_N = np.flatnonzero((split_R == Split.EVALUATE) & (length_R > room + 1))
    seen: dict[int, int] = {}
    turn_N = []
    for document in document_R[row_N].tolist():
        turn_N.append(seen.get(document, 0))
        seen[document] = turn_N[-1] + 1
    return np.asarray(row_N[np.argsort(np.array(turn_N, np.int64), kind="stable")], np.int64)
