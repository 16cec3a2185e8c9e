"""A pipeline of arithmetic: numbers → squares → total. Small enough to check by hand, with all that a stage has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from nlsim.pipeline.pipeline import Pipeline
from nlsim.pipeline.stage import Estimate, Resources, Stage, StageContext

if TYPE_CHECKING:
    from nlsim.config import Config

SHARDS = 4


class Numbers(Stage):
    """Shard i holds 10·i … 10·i + 9."""

    name = "numbers"
    sections = ("seed",)

    def shards(self, config: Config) -> int:
        return SHARDS

    def execute(self, context: StageContext) -> None:
        context.progress(0, 1, "lists")
        values = np.arange(10 * context.shard, 10 * context.shard + 10, dtype=np.int64)
        context.output.arrays("values", {"n": values + context.config.seed})
        context.output.count(values=len(values))


class Squares(Stage):
    """Fails, on request, so that tests can see what a failure leaves behind."""

    name = "squares"
    inputs = ("numbers",)

    def shards(self, config: Config) -> int:
        return SHARDS

    def resources(self, config: Config) -> Resources:
        return Resources("model", 2, 4, 1)

    def estimate(self, config: Config) -> Estimate:
        return Estimate(tokens=1_000, predictions=32_800_000, bytes=10_000, flops=2e19)

    def execute(self, context: StageContext) -> None:
        context.progress(0, 1, "squares")
        n = context.inputs["numbers"].arrays(context.shard, "values")["n"]
        context.output.table("squares", pa.table({"n": n, "square": n * n}))
        if os.environ.get("TOY_FAIL") == str(context.shard):
            if os.environ.get("TOY_FAIL_BY") == "memory":
                np.empty(1 << 60, np.int8)
            raise RuntimeError("asked to fail after writing data")


class Total(Stage):
    """Sums over all shards and publishes the result."""

    name = "total"
    inputs = ("squares",)
    publishes: ClassVar[Mapping[str, str]] = {"total.json": "total.json"}

    def shards(self, config: Config) -> int:
        return 1

    def execute(self, context: StageContext) -> None:
        table = context.inputs["squares"].tables("squares")
        context.output.json("total", {"total": sum(table["square"].to_pylist())})


def toy() -> Pipeline:
    """numbers → squares → total."""
    return Pipeline("toy", (Numbers(), Squares(), Total()))
