"""What a run will do and cost, from its configuration alone: the table of `nlsim plan` and the file `plan.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from nlsim.pipeline import registry

if TYPE_CHECKING:
    from nlsim.config import Config
    from nlsim.pipeline.run import Run
    from nlsim.pipeline.stage import Estimate, Resources

PLAN = "plan.json"


class Hardware(NamedTuple):
    """What one device sustains on language-model forwards with shared prefixes."""

    name: str
    flops_per_s: float
    """Sustained floating-point operations per second of the packed engine."""
    dollars_per_hour: float | None
    """A typical on-demand price in 2026; None: your own machine."""


HARDWARE = (
    # Sustained rates: 80 % of the bf16 GEMM rate measured on an H200 (790 TFLOP/s), an H100 alike; the data-sheet rate
    # of an A100 times the same share of peak; 105 TFLOP/s realistic on an A40; float32 on two AVX-512 cores.
    Hardware("2 CPU cores", 1.0e11, None),
    Hardware("A40", 1.0e14, 0.79),
    Hardware("A100", 2.1e14, 1.79),
    Hardware("H100", 5.9e14, 2.99),
    Hardware("H200", 6.3e14, 3.99),
)


class StagePlan(NamedTuple):
    """One row of a plan."""

    name: str
    fingerprint: str
    shards: int
    inputs: tuple[str, ...]
    resources: Resources
    estimate: Estimate

    def seconds_on(self, hardware: Hardware) -> float:
        """Time of the stage's model forwards on one device, seconds. Work on data alone is not counted."""
        return self.estimate.flops / hardware.flops_per_s

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "shards": self.shards,
            "inputs": list(self.inputs),
            "resources": self.resources._asdict(),
            "estimate": self.estimate._asdict(),
        }


def plan_config(config: Config, run: Run | None = None) -> list[StagePlan]:
    """The plan of a configuration, in the pipeline's order.

    Without a run nothing outside the configuration is looked at, so fingerprints (which depend on the content of models
    and text) are empty, and neither models nor text have to be there.
    """
    rows = []
    for stage in registry.pipeline_of(config).stages:
        fingerprint = run.lineage.stages[stage.name].fingerprint if run is not None else ""
        resources, estimate = stage.resources(config), stage.estimate(config)
        rows.append(StagePlan(stage.name, fingerprint, stage.shards(config), stage.inputs, resources, estimate))
    return rows


def write_plan(run: Run, rows: list[StagePlan]) -> None:
    """Write `<run>/plan.json`: what a workflow needs to fan out."""
    text = json.dumps(
        {"schema": 1, "experiment": run.pipeline.name, "stages": [row.to_json() for row in rows]}, indent=1
    )
    run.files.put(PLAN, text.encode() + b"\n")
