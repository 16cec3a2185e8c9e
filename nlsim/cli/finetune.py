"""`nlsim finetune`: the parts of a finetuning run, one by one. `nlsim run` carries out all of them."""

from __future__ import annotations

import click

from nlsim.cli.run import RUN, SET, STORE, UPDATE, run

CONFIG = click.argument("config", required=False)


@click.group()
def finetune() -> None:
    """Teach a language model to simulate: examples from other latents and documents, LoRA, and how good it became.

    CONFIG is a configuration of the experiment `finetune`; `nlsim run CONFIG` does all three parts and the report.
    Every part carries on where it was.
    """


def _until(
    stage: str, config: str | None, url: str | None, overrides: tuple[str, ...], store: str | None, update: bool
) -> None:
    click.get_current_context().invoke(
        run, config=config, url=url, overrides=overrides, store=store, update=update, until=stage, workers=1, join=False
    )


@finetune.command("make-data")
@CONFIG
@RUN
@SET
@STORE
@UPDATE
def make_data(config: str | None, url: str | None, overrides: tuple[str, ...], store: str | None, update: bool) -> None:
    """Make the examples: prompts as they are at use, with the true answers."""
    _until("examples", config, url, overrides, store, update)


@finetune.command()
@CONFIG
@RUN
@SET
@STORE
@UPDATE
def train(config: str | None, url: str | None, overrides: tuple[str, ...], store: str | None, update: bool) -> None:
    """Train the LoRA adapter; it is published to the run's folder `adapter`."""
    _until("train", config, url, overrides, store, update)


@finetune.command("eval")
@CONFIG
@RUN
@SET
@STORE
@UPDATE
def evaluate(config: str | None, url: str | None, overrides: tuple[str, ...], store: str | None, update: bool) -> None:
    """Judge it on latents and documents left out, beside the base model and a control."""
    _until("judge", config, url, overrides, store, update)
