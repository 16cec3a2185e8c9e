"""The explanations table: what the stage writes and later stages read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nlsim.explain.explainer import Explanation

if TYPE_CHECKING:
    import pyarrow

    from nlsim.store.artifact import Artifact


def explanation_table(explanations: Iterable[Explanation], method: str, model: str) -> pyarrow.Table:
    """Columns latent, method, text, status, examples, model, prompt_hash."""
    import pyarrow as pa

    rows = list(explanations)
    return pa.table(
        {
            "latent": pa.array([row.latent for row in rows], pa.int64()),
            "method": pa.array([method] * len(rows), pa.string()),
            "text": pa.array([row.text for row in rows], pa.string()),
            "status": pa.array([row.status for row in rows], pa.string()),
            "examples": pa.array([list(row.examples) for row in rows], pa.list_(pa.int64())),
            "model": pa.array([model] * len(rows), pa.string()),
            "prompt_hash": pa.array([row.prompt_hash for row in rows], pa.string()),
        }
    )


def read_explanations(explain: Artifact) -> list[Explanation]:
    """All explanations of an *explain* artifact, by ascending latent, failed ones included."""
    table = explain.tables("explanations")
    columns = (table.column(name).to_pylist() for name in ("latent", "text", "status", "examples", "prompt_hash"))
    found = [Explanation(a, b, c, tuple(d), e) for a, b, c, d, e in zip(*columns, strict=True)]
    return sorted(found, key=lambda explanation: explanation.latent)
