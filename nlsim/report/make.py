"""Carrying out the stage `report`."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

from nlsim import __version__
from nlsim.log import one_line
from nlsim.report.blog import gather_blog, tell_blog
from nlsim.report.browse import browse
from nlsim.report.finetune import tell_finetune
from nlsim.report.gather import Metrics, gather
from nlsim.report.page import Story, html, markdown, tables
from nlsim.report.story import tell

if TYPE_CHECKING:
    from nlsim.pipeline.stage import StageContext

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of files in archives: the same numbers give the same bytes."""


def make(context: StageContext) -> None:
    """Write the report's objects."""
    config, inputs, output = context.config, context.inputs, context.output
    if config.experiment == "blog":
        metrics = gather_blog(config, inputs)
        story = tell_blog(config, metrics, inputs, browse(context), provenance(context))
    elif config.experiment == "finetune":
        metrics = Metrics(inputs["judge"].json(0, "metrics"))
        story = tell_finetune(config, metrics, inputs["train"], provenance(context))
    else:
        metrics = gather(config, inputs)
        scores, reliability = inputs["score"].tables("scores"), inputs["calibrate"].table(0, "reliability")
        story = tell(config, metrics, scores, reliability, browse(context), provenance(context))
    output.bytes("metrics.json", _json({"schema": 1, "run": config.name, "metrics": metrics.rows}))
    output.bytes("index.html", html(story).encode())
    output.bytes("report.md", markdown(story).encode())
    output.bytes("findings.txt", findings(story).encode())
    output.bytes("tables.zip", archive({name: table.csv() for name, table in tables(story).items()}))
    output.count(metrics=len(metrics.rows), latents=len(story.browser.latents))


def provenance(context: StageContext) -> dict[str, str]:
    """What made the numbers, without times and hosts, so that the same run gives the same page."""
    config = context.config
    tokens = context.inputs["tokens"].record(0).counts
    asked = config.language_model("explain")
    facts = {
        "run": config.name,
        "nlsim": __version__,
        "subject": config.subject.model,
        "coder": config.coder.path,
        "text": f"{config.corpus.source.kind}, {tokens['documents']:,} documents, {tokens['tokens']:,} tokens",
        "explainer": config.explain.method + (f", {asked.model}" if config.explain.method == "llm" else ""),
        "simulator": config.language_model("simulate").model,
        "scorer": config.language_model("score").model,
        "seed": str(config.seed),
        "reproduce": f"nlsim run {config.name}.yaml (the configuration below)",
    }
    return facts | {f"fingerprint of {name}": artifact.fingerprint for name, artifact in context.inputs.items()}


def findings(story: Story) -> str:
    """The findings as text for a terminal."""
    said = (f"  - {one_line(finding)}" for finding in story.findings)
    return "\n".join([one_line(story.title), "", one_line(story.headline), "", *said]) + "\n"


def archive(texts: dict[str, str]) -> bytes:
    """A zip of CSV files; equal contents give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in sorted(texts.items()):
            packed.writestr(zipfile.ZipInfo(f"{name}.csv", EPOCH), text)
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
