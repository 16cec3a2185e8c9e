"""Pipelines to make workflows of."""

from argo.cluster import Cluster, Gpu
from argo.template import StageShape
from nlsim.pipeline.stage import Resources

SMALL = Resources("cpu", 1, 2, 0)
CHAIN = (
    StageShape("tokens", (), 1, SMALL),
    StageShape("cache", ("tokens",), 4, Resources("model", 2, 6, 0)),
    StageShape("simulate", ("tokens", "cache"), 1000, Resources("model", 4, 32, 1)),
    StageShape("report", ("cache", "simulate"), 1, SMALL),
)
"""A pod for each shard, the largest fan-out of pods among them, with GPUs."""

WIDE = (
    StageShape("tokens", (), 1, SMALL),
    StageShape("simulate", ("tokens",), 100_000, Resources("vllm", 1.5, 32, 1)),
    StageShape("report", ("simulate",), 1, SMALL),
)
"""More shards than a workflow takes."""

PLAIN = Cluster()
FULL = Cluster.model_validate(
    {
        "namespace": "team",
        "images": {
            "cpu": "r.example/nlsim-cpu:1",
            "model": "r.example/nlsim-model@sha256:" + "0" * 64,
            "pull_secrets": ["r"],
        },
        "gpu": Gpu(
            node_selector={"accelerator": "h100"},
            priority_class="nlsim-gpu",
            runtime_class="nvidia",
            semaphore="nlsim-limits",
        ).model_dump(),
        "model_cache": "models",
        "queue": "nlsim",
        "workload_identity": True,
        "spread_retries": True,
        "on_failure": "stop",
    }
)
