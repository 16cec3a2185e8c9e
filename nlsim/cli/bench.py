"""`nlsim bench`: measure this machine with the user's own model."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.group()
def bench() -> None:
    """Measure this machine."""


@bench.command()
@click.option("--model", required=True, help="Folder, hub name, smollm2-135m or nlsim:NAME.")
@click.option("--engine", default="auto", show_default=True, help="auto, packed, transformers or vllm.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, auto or shard.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option(
    "--prefix", default=600, show_default=True, help="Tokens that all prompts share (instructions, examples)."
)
@click.option("--explanation", default=36, show_default=True, help="Tokens that the prompts of one latent share.")
@click.option("--suffix", default=48, show_default=True, help="Tokens of one prompt alone.")
@click.option("--texts", default=200, show_default=True, help="Prompts per latent.")
@click.option("--seconds", default=20.0, show_default=True, help="Roughly how long to measure.")
@click.option(
    "--plan",
    "config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A run's YAML: its time and cost here.",
)
@click.option("--price", default=0.0, show_default=True, help="Of an hour of this machine, for --plan.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def lm(
    model: str, engine: str, device: str, dtype: str, prefix: int, explanation: int, suffix: int, texts: int,
    seconds: float, config: Path | None, price: float, as_json: bool,
) -> None:  # fmt: skip
    """Predictions per second of a language model, beside what the arithmetic of this machine allows.

    Prompts are random tokens: instructions shared by all, an explanation shared by some, and a text of its own.
    """
    from pydantic import ValidationError

    from nlsim.cli import table
    from nlsim.errors import UsageError
    from nlsim.lm.bench import Prompts, measure
    from nlsim.lm.config import LmConfig

    try:
        settings = LmConfig.model_validate({"model": model, "engine": engine, "device": device, "dtype": dtype})
    except ValidationError as error:
        raise UsageError(
            f"{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}", "see nlsim bench lm --help"
        ) from error
    found = measure(settings, Prompts(prefix, explanation, suffix, texts), seconds)
    facts = {
        "engine": found.facts["engine"],
        "model": found.facts["model"],
        "device": found.device,
        "precision": found.facts["dtype"],
        "predictions per second": f"{found.predictions_per_s:,.1f}",
        "model arithmetic": f"{found.flops_per_s / 1e12:,.3f} TFLOP/s",
        "matrix products alone": f"{found.peak_flops_per_s / 1e12:,.3f} TFLOP/s",
        "of the roofline": f"{100 * found.flops_per_s / found.peak_flops_per_s:.0f} %",
        "memory": table.size(found.memory_bytes),
        "without shared prefixes": f"{found.saved:.1f} times the arithmetic",
    }
    planned = None
    if config is not None:
        from nlsim.config import load_config
        from nlsim.pipeline.plan import plan_config

        flops = sum(row.estimate.flops for row in plan_config(load_config(config).config))
        hours = flops / found.flops_per_s / 3600
        planned = {"config": str(config), "flops": flops, "hours": hours, "price": hours * price}
        facts[f"{config} here"] = table.duration(hours * 3600) + (
            f", {hours * price:,.2f} at {price:g} an hour" if price else ""
        )
    if as_json:
        click.echo(json.dumps({**found._asdict(), "plan": planned}, indent=1))
        return
    table.show("Language model", ["", ""], [[name, value] for name, value in facts.items()])
