"""What was published of the blog's experiments, and why ours differs.

Tables 1 and 2, the figures' read-offs and the text of "Partially rewriting an LLM in natural language" (2025) and its
blog post: Gemma-2-9B, layer 11, Gemma Scope of width 131,072, Llama-3.1 as simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nlsim.report.tables import Number


class Published(NamedTuple):
    """One published number and where ours is."""

    what: str
    number: Number
    """The value; in place of an interval the published quartiles over sentences, where given."""
    name: str
    """Name of our metric."""
    condition: Mapping[str, Any]
    why: str
    """What is known to set the two apart, beyond model and data."""


IDENTIFY = {"task": "identify"}
POOLED = {"task": "identify", "pool": "published"}
SHARPENED = (
    "published answers were sampled at temperature 0.7 from probabilities sharpened by it; ours are decided at ½"
)
FAILED = "published parse failures count as false positives; ours are left out and counted"
AUC = "published AUC ranks by P(1) without renormalising; ours by P(1) among the answers"
NOT_TRAINED = "the published finetuned row was asked with the wrong prompt, after training on mislabelled pairs"
WHISKERS = "published direction: KL(patched ‖ clean); its whiskers are drawn at wrong places; fp16 softmax"
GRID = "the published grids come from all cached activations, evaluation rows included"

RECALL = {
    "quantiles": Number(0.42, 0.28, 0.54), "top": Number(0.34, 0.22, 0.44), "finetuned": Number(0.28, 0.18, 0.36),
    "fuzzing": Number(0.58, 0.44, 0.71), "detection": Number(0.57, 0.43, 0.70), "large": Number(0.44, 0.29, 0.56),
}  # fmt: skip
F1 = {
    "quantiles": Number(0.24, 0.18, 0.29), "top": Number(0.24, 0.18, 0.30), "finetuned": Number(0.23, 0.17, 0.29),
    "fuzzing": Number(0.28, 0.23, 0.33), "detection": Number(0.28, 0.23, 0.33), "large": Number(0.27, 0.21, 0.31),
}  # fmt: skip
AREA = {
    "quantiles": Number(0.82, 0.78, 0.86), "top": Number(0.80, 0.77, 0.85), "finetuned": Number(0.82, 0.79, 0.87),
    "fuzzing": Number(0.84, 0.81, 0.88), "detection": Number(0.84, 0.81, 0.88), "large": Number(0.84, 0.81, 0.88),
}  # fmt: skip
AT_49 = {"quantiles": 0.285, "top": 0.325, "fuzzing": 0.305, "detection": 0.31, "large": 0.29}
ALIGNED = {"quantiles": 0.33, "top": 0.39}
KL_MEDIAN = {
    "quantiles": 0.075, "top": 0.085, "finetuned": 0.11, "fuzzing": 0.037, "detection": 0.040, "large": 0.028
}  # fmt: skip
KL_MEAN = {"quantiles": 1.9, "top": 2.1, "finetuned": 2.3, "fuzzing": 1.0, "detection": 1.2, "large": 0.8}
BY_VALUE = {"quantiles": 0.163, "top": 0.213, "fuzzing": 0.177, "detection": 0.173}
BY_QUANTILE = {"quantiles": 0.087, "top": 0.111, "fuzzing": 0.081, "detection": 0.084}


def of_method(method: str) -> list[Published]:
    """What was published of one method."""
    more = f"; {NOT_TRAINED}" if method == "finetuned" else ""
    found = [
        Published("recall", RECALL[method], "recall", IDENTIFY, SHARPENED + more),
        Published("F1, 50 active and 1,000 inactive", F1[method], "f1", POOLED, FAILED + more),
        Published("AUC", AREA[method], "auc", IDENTIFY, AUC + more),
    ]
    singles = (
        ("precision at 49", AT_49, "precision_at", POOLED, AUC),
        ("alignment of decoder directions", ALIGNED, "alignment", {**IDENTIFY, "latents": "likeliest"},
         "published: dot products in fp16, among 1,050 latents shown"),
        ("KL with help, median", KL_MEDIAN, "kl_reverse_p50", {"task": "help", "keep": "found"}, WHISKERS),
        ("KL with help, mean", KL_MEAN, "kl_reverse", {"task": "help", "keep": "found"}, WHISKERS),
        ("correlation with the value", BY_VALUE, "correlation", {"task": "value", "target": "value"}, GRID),
        ("correlation with the quantile", BY_QUANTILE, "correlation", {"task": "value", "target": "quantile"}, GRID),
    )  # fmt: skip
    for what, values, name, condition, why in singles:
        if method in values:
            found.append(Published(what, Number(values[method]), name, condition, why))
    return found


def of_limits() -> list[Published]:
    """What was published of the experiments without explanations, read off the figures."""
    read_off = "read off a figure; direction of the published divergence unknown"

    def kept(keep: str, count: int, value: float) -> Published:
        condition = {"task": "limits", "keep": keep, "count": count}
        return Published(f"KL, {count} {keep} latents kept", Number(value), "kl", condition, read_off)

    return [
        Published("KL of the whole code", Number(0.039), "kl", {"task": "limits", "keep": "coder"}, read_off),
        Published(
            "relative error of cross-entropy, whole code", Number(0.010), "ce_relative_error",
            {"task": "limits", "keep": "coder"}, read_off,
        ),
        kept("strongest", 1, 4.5), kept("strongest", 10, 0.27), kept("strongest", 20, 0.10),
        kept("random", 1, 8.0), kept("random", 10, 5.9), kept("random", 20, 3.0),
        Published("alignment of random latents", Number(0.055), "alignment", {**IDENTIFY, "latents": "random"},
                  "published: dot products in fp16"),
    ]  # fmt: skip
