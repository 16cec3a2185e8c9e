"""What a run will do and cost, from its configuration alone: the table of `nlsim plan` and the file `plan.json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

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


def plan_config(config: Config) -> list[StagePlan]:
    """The plan of a configuration that has no run yet, in the pipeline's order."""
    from nlsim.experiments.registry import pipeline_of

    return [
        StagePlan(name, fingerprint, shards, stage.inputs, stage.resources(config), stage.estimate(config))
        for name, (stage, fingerprint, shards) in pipeline_of(config).planned(config).items()
    ]


def write_plan(run: Run, rows: list[StagePlan]) -> None:
    """Write `<run>/plan.json`: what a workflow needs to fan out."""
    text = json.dumps(
        {"schema": 1, "experiment": run.pipeline.name, "stages": [row.to_json() for row in rows]}, indent=1
    )
    run.files.put(PLAN, text.encode() + b"\n")
