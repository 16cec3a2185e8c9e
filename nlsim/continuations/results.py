"""What the stage `continue` writes of a prompt.

JSON `prompt`: source (name of the document, empty for a text of the configuration), begun (tokens of the prompt, BOS
included), latents (under study), width (of the coder), texts (token numbers of every text, BOS first; text 0 is what
the subject writes as it is), forced (conditions that read text 0), free (condition → the text that it writes itself).

Tables, one line per text, step and what else they name; step s reads token s and predicts token s + 1:
`steps`: condition, kl, chosen, given, likeliest, probability (see `patched.Steps`);
`active`: latent, value, lot: the true active latents under study, strongest first; `random` keeps those with the lowest
lots, `top` the first lines;
`predicted`: kind, latent, probability, value: what a kind says of the active latents, and of the silent ones that it
most wrongly finds;
`counts`: kind, asked (latents), found (active latents found), missed, unasked (active latents without prediction),
false_alarms (silent latents found, of those asked about).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nlsim.continuations.conditions import Condition, Predicted, lots

if TYPE_CHECKING:
    import pyarrow

    from nlsim.continuations.config import ContinuationsConfig
    from nlsim.continuations.patched import Steps
    from nlsim.continuations.write import Judged
    from nlsim.store.artifact import ShardWriter

Ints = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Lines = list[dict[str, Any]]


class Texts:
    """Collects the texts of one prompt. Conditions that write the same text share it."""

    def __init__(self, latents: Ints, settings: ContinuationsConfig, lots_seed: tuple[int, ...]) -> None:
        """`lots_seed`: of the random choice of latents, see `conditions.lots`."""
        self._latents, self._settings, self._lots_seed = latents, settings, lots_seed
        self._texts: list[list[int]] = []
        self._lines: dict[str, Lines] = {name: [] for name in SCHEMAS}
        self._added: set[tuple[int, str]] = set()
        self.free: dict[str, int] = {}

    def add(self, judged: Judged, conditions: Iterable[Condition], kind: str = "") -> int:
        """Add a text as `conditions` read it, and what `kind` says of it where it was asked; the number of the text."""
        tokens = judged.tokens.tolist()
        if tokens not in self._texts:
            self._texts.append(tokens)
            lot_SL = lots(judged.truth_SL.shape, self._lots_seed)
            self._lines["active"] += active_lines(len(self._texts) - 1, judged.truth_SL, lot_SL, self._latents)
        text = self._texts.index(tokens)
        for condition in conditions:
            if self._is_new(text, condition.label):
                self._lines["steps"] += step_lines(text, condition, judged.steps[condition])
        if judged.predicted is not None and self._is_new(text, f"what {kind} says"):
            made = predicted_lines(text, kind, judged.truth_SL, judged.predicted, self._latents, self._settings)
            self._lines["predicted"] += made[0]
            self._lines["counts"] += made[1]
        return text

    def write(self, output: ShardWriter, facts: Mapping[str, Any]) -> None:
        """Write the tables and the prompt, with `facts` about it."""
        import pyarrow as pa

        for name, lines in self._lines.items():
            output.table(name, pa.Table.from_pylist(lines, schema=_schema(name)))
        forced = sorted(line["condition"] for line in self._lines["steps"] if line["text"] == 0 and line["step"] == 0)
        output.json("prompt", {**facts, "texts": self._texts, "forced": forced, "free": self.free})

    def _is_new(self, text: int, what: str) -> bool:
        known = (text, what) in self._added
        self._added.add((text, what))
        return not known


SCHEMAS = {
    "steps": {
        "condition": "string",
        "kl": "float",
        "chosen": "int32",
        "given": "float",
        "likeliest": "ids",
        "probability": "floats",
    },
    "active": {"latent": "int32", "value": "float", "lot": "int32"},
    "predicted": {"kind": "string", "latent": "int32", "probability": "float", "value": "float"},
    "counts": {"kind": "string", **dict.fromkeys(("asked", "found", "missed", "unasked", "false_alarms"), "int32")},
}


def _schema(name: str) -> pyarrow.Schema:
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "float": pa.float32(),
        "int32": pa.int32(),
        "ids": pa.list_(pa.int32()),
        "floats": pa.list_(pa.float32()),
    }
    columns = {"text": "int32", "step": "int32", **SCHEMAS[name]}
    return pa.schema([(column, types[kind]) for column, kind in columns.items()])


def step_lines(text: int, condition: Condition, steps: Steps) -> Lines:
    """Lines of the table `steps`."""
    columns = zip(*(column.tolist() for column in steps), strict=True)
    names = ("kl", "chosen", "given", "likeliest", "probability")
    return [
        {"text": text, "step": step, "condition": condition.label, **dict(zip(names, line, strict=True))}
        for step, line in enumerate(columns)
    ]


def active_lines(text: int, truth_SL: Float32, lot_SL: Float32, latents: Ints) -> Lines:
    """Lines of the table `active`; lots as ranks among a token's active latents."""
    lines: Lines = []
    for step, truth_L in enumerate(truth_SL):
        place = np.flatnonzero(truth_L)
        place = place[np.argsort(-truth_L[place], kind="stable")]
        rank = np.argsort(np.argsort(lot_SL[step, place]))
        for i, lot in zip(place.tolist(), rank.tolist(), strict=True):
            what = {"latent": int(latents[i]), "value": float(truth_L[i]), "lot": lot}
            lines.append({"text": text, "step": step, **what})
    return lines


def predicted_lines(
    text: int, kind: str, truth_SL: Float32, predicted: Predicted, latents: Ints, settings: ContinuationsConfig
) -> tuple[Lines, Lines]:
    """Lines of the tables `predicted` and `counts`, from step 1 on: nothing is predicted at BOS."""
    lines: Lines = []
    counts: Lines = []
    for step in range(1, len(truth_SL)):
        probability_L, value_L = predicted.probability_SL[step], predicted.value_SL[step]
        active_L, asked_L = truth_SL[step] > 0, ~np.isnan(probability_L)
        found_L = np.nan_to_num(probability_L) >= settings.found_at
        wrong = np.flatnonzero(found_L & ~active_L)
        worst = wrong[np.argsort(-probability_L[wrong], kind="stable")][: settings.false_alarms]
        for i in [*np.flatnonzero(active_L & asked_L).tolist(), *worst.tolist()]:
            said = {"latent": int(latents[i]), "probability": float(probability_L[i]), "value": float(value_L[i])}
            lines.append({"text": text, "step": step, "kind": kind, **said})
        counted = {
            "asked": asked_L,
            "found": active_L & found_L,
            "missed": active_L & asked_L & ~found_L,
            "unasked": active_L & ~asked_L,
            "false_alarms": ~active_L & found_L,
        }
        sums = {name: int(chosen_L.sum()) for name, chosen_L in counted.items()}
        counts.append({"text": text, "step": step, "kind": kind, **sums})
    return lines, counts
