"""The kinds of explanations of a run side by side, as Markdown: `kinds_table.py runs/smollm2 > table.md`.

Explanations, scores, predictions and losses of every kind, with 95 % intervals, from the run's metrics.json, and some
of the explanations themselves from its store. For docs/results-*.md.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from nlsim.explain.table import read_explanations
from nlsim.pipeline.run import Run

WHOLE = {"fraction": 1.0, "clip": "none"}
ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("detection, balanced accuracy", "balanced_accuracy", {"scorer": "detection"}),
    ("detection, AUC", "auc", {"scorer": "detection"}),
    ("fuzzing, balanced accuracy", "balanced_accuracy", {"scorer": "fuzzing"}),
    ("fuzzing, AUC", "auc", {"scorer": "fuzzing"}),
    ("probability of a digit", "choice_mass", {}),
    ("active or not, AUC", "auc", {"explanation": "own", "values": "raw"}),
    ("the same, shuffled explanations", "auc", {"explanation": "shuffled", "values": "raw"}),
    ("Brier score, calibrated", "brier", {"explanation": "own", "values": "posterior"}),
    ("Brier score, base rate", "brier", {"explanation": "none", "values": "base_rate"}),
    ("activation variance unexplained", "activation_fvu", {"values": "posterior"}),
    ("cross-entropy − zero ablation, nats", "ce_minus_zero", {"values": "posterior", **WHOLE}),
    ("cross-entropy − mean ablation, nats", "ce_minus_mean", {"values": "posterior", **WHOLE}),
    ("the same, shuffled explanations", "ce_minus_mean", {"values": "shuffled", **WHOLE}),
    ("the same, the calibration refitted to them", "ce_minus_mean", {"values": "shuffled_refitted", **WHOLE}),
    ("cross-entropy − token means, nats", "ce_minus_token_mean", {"values": "posterior", **WHOLE}),
    ("fraction recovered", "fraction_recovered", {"values": "posterior", **WHOLE}),
    ("the same, uncalibrated linear map", "fraction_recovered", {"values": "linear", **WHOLE}),
    ("the same, token means", "fraction_recovered", {"values": "token_mean", **WHOLE}),
)


def shown(row: dict[str, Any] | None) -> str:
    """A value with its interval."""
    if row is None or row["value"] is None:
        return "–"
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if row["low"] is not None else ""
    return f"{row['value']:.3f}{interval}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder or s3:// URL of a finished run")
    parser.add_argument("--latents", type=int, default=8, help="how many explanations to show")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    rows = json.loads(run.files.get("metrics.json"))["metrics"]
    kinds = (run.config.kind, *run.config.kinds)

    def find(name: str, kind: str, condition: dict[str, Any]) -> dict[str, Any] | None:
        wanted = condition if kind == run.config.kind else {**condition, "kind": kind}
        for row in rows:
            mine = row["condition"]
            if row["name"] == name and wanted.items() <= mine.items() and ("kind" in mine) == ("kind" in wanted):
                return dict(row)
        return None

    def artifact(stage: str, kind: str) -> Any:
        variant = f"{stage}-{kind}"
        return run.artifact(variant if variant in run.lineage.stages else stage)

    print(f"| | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for stage, label in (("explain", "explained by"), ("score", "scored by"), ("simulate", "simulated by")):
        names = []
        for kind in kinds:
            config = run.config.of_kind(kind)
            counted = stage == "explain" and config.explain.method != "llm"
            names.append(config.explain.method if counted else config.language_model(stage).model)  # type: ignore[arg-type]
        print(f"| {label} | {' | '.join(names)} |")
    explained = [find("latents", kind, {"status": "ok"}) for kind in kinds]
    print(
        f"| latents with an explanation | {' | '.join('0' if r is None else str(int(r['value'])) for r in explained)} |"
    )
    for label, name, condition in ROWS:
        print(f"| {label} | {' | '.join(shown(find(name, kind, condition)) for kind in kinds)} |")
    texts = {kind: {e.latent: e.text for e in read_explanations(artifact("explain", kind))} for kind in kinds}
    distinct = {json.dumps(found, sort_keys=True): kind for kind, found in reversed(texts.items())}
    print("\nSeconds by stage:", ", ".join(f"{s} {_seconds(run, s):.0f}" for s in run.lineage.stages))
    for latent in sorted(texts[kinds[0]])[: arguments.latents]:
        print(f"\n- **{latent}**")
        for kind in distinct.values():
            print(f"  - {kind}: {texts[kind].get(latent, '') or '(none)'}")


def _seconds(run: Run, stage: str) -> float:
    return sum(record.seconds for record in run.artifact(stage).records.values())


if __name__ == "__main__":
    main()
