"""`nlsim config`: the resolved configuration with the source of each value, and the schema for editors."""

from __future__ import annotations

import json

import click

from nlsim.cli import table


@click.group()
def config() -> None:
    """Show a resolved configuration, or the schema."""


@config.command()
@click.argument("path")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print a complete YAML file instead of a table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def show(path: str, overrides: tuple[str, ...], as_yaml: bool, as_json: bool) -> None:
    """Print every setting of the file at PATH, defaults included, and where each value comes from."""
    from nlsim.config import leaves, load_config

    loaded = load_config(path, overrides)
    if as_yaml:
        click.echo(loaded.config.to_yaml(), nl=False)
        return
    if as_json:
        click.echo(json.dumps({"config": loaded.config.model_dump(mode="json"), "sources": loaded.sources}, indent=1))
        return
    rows = [
        [key, json.dumps(value, ensure_ascii=False), loaded.sources[key]]
        for key, value in leaves(loaded.config.model_dump(mode="json"))
    ]
    table.show("", ["setting", "value", "from"], rows)


@config.command()
def schema() -> None:
    """Print the JSON schema of configurations, for editors' completion."""
    from nlsim.config import Config

    click.echo(json.dumps(Config.model_json_schema(), indent=1))
