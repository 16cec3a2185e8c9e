"""`nlsim models train-simulator`: train the small language model that simulates, detects and fuzzes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nlsim.errors import UsageError


@click.command("train-simulator")
@click.argument("config", metavar="FILE")
@click.option("--out", required=True, metavar="DIR", help="Folder for the model.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another setting; repeatable.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads. The same number gives the same bytes.")
def train_simulator(config: str, out: str, overrides: tuple[str, ...], threads: int | None) -> None:
    """Train a simulator as FILE says and print its figures on held-out latents and documents.

    FILE holds the settings of `TrainSimulatorConfig`: above all the coders and neurons whose latents are learned from.
    The coders that the simulator is to be used on must not be among them.

    \b
    nlsim models train-simulator configs/models/simulator.yaml --out simulator --threads 2
    """
    import torch
    from pydantic import ValidationError

    from nlsim.config import parse_override, set_path
    from nlsim.foreign import yaml_of
    from nlsim.simulator.config import TrainSimulatorConfig
    from nlsim.simulator.train import train_simulator as train

    try:
        settings = yaml_of(Path(config).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {config} ({error})", "give a YAML file of settings") from error
    if not isinstance(settings, dict):
        raise UsageError(f"{config} holds no settings", "see configs/models/simulator.yaml")
    for override in overrides:
        set_path(settings, *parse_override(override, "steps=1000"))
    try:
        parsed = TrainSimulatorConfig.model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UsageError(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}", "see configs/models/simulator.yaml"
        ) from error
    if threads is not None:
        torch.set_num_threads(threads)
    card = train(parsed, Path(out))
    click.echo(json.dumps(card["held_out"], indent=1))
