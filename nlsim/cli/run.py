"""`nlsim run`, `plan` and `stage`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import click

from nlsim.cli import table
from nlsim.errors import UsageError

if TYPE_CHECKING:
    from nlsim.pipeline.plan import StagePlan
    from nlsim.pipeline.run import Run

SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable.")
RUN = click.option("--run", "url", metavar="URL", help="Folder or s3://bucket/prefix of the run [runs/<name>].")
STORE = click.option("--store", metavar="URL", help="Share stage outputs with other runs at this URL.")
UPDATE = click.option("--update", is_flag=True, help="Move an existing run to a changed configuration.")


def open_run(config: str | None, url: str | None, overrides: tuple[str, ...], store: str | None, update: bool) -> Run:
    """The run that the options name: made from CONFIG, or opened when only --run is given."""
    from nlsim.config import load_config
    from nlsim.pipeline.run import Run

    if config is None:
        if url is None:
            raise UsageError("nothing to run", "give a configuration (e.g. configs/tiny.yaml) or --run URL")
        if overrides or store:
            raise UsageError("--set and --store need the configuration", "name its file before them")
        return Run.open(url)
    loaded = load_config(config, overrides).config
    return Run.create(url or f"runs/{loaded.name}", loaded, store, update)


@click.command()
@click.argument("config", required=False)
@RUN
@SET
@STORE
@UPDATE
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes a stage's shards run in."
)
@click.option("--join", is_flag=True, help="Work beside another runner of the same run.")
def run(
    config: str | None,
    url: str | None,
    overrides: tuple[str, ...],
    store: str | None,
    update: bool,
    until: str | None,
    workers: int,
    join: bool,
) -> None:
    """Carry out CONFIG on this machine: every missing shard of every stage, then the report.

    Stop it at any moment (Ctrl-C, SIGTERM, a crash); the same command carries on from the last committed shard.
    """
    from contextlib import ExitStack

    from nlsim.log import people_read_stderr
    from nlsim.pipeline.plan import plan_config, write_plan
    from nlsim.pipeline.runner import carry_out, sole_runner
    from nlsim.progress import BarReporter, LineReporter, Reporter

    opened = open_run(config, url, overrides, store, update)
    if until is not None:
        opened.pipeline.stage(until)
    write_plan(opened, plan_config(opened.config, opened))
    with ExitStack() as stack:
        stack.enter_context(sole_runner(opened.files, join))
        reporter: Reporter = stack.enter_context(BarReporter()) if people_read_stderr() else LineReporter()
        for outcome in carry_out(opened, reporter, until, workers):
            done = f"{outcome.computed} of {outcome.shards} shards" if outcome.computed else "already done"
            click.echo(f"  {outcome.stage:<12} {done:<18} {table.duration(outcome.seconds)}")
    if until is None:
        from nlsim.cli.report import print_findings

        print_findings(opened)
    else:
        click.echo(f"{until} is complete in {opened.url}")


@click.command()
@click.argument("config", required=False)
@RUN
@SET
@STORE
@UPDATE
@click.option("--compare", is_flag=True, help="Compare engines and hardware: hours and price of the whole run.")
@click.option("--price", "prices", multiple=True, metavar="NAME=DOLLARS", help="Per hour, e.g. H100=2.50; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def plan(
    config: str | None,
    url: str | None,
    overrides: tuple[str, ...],
    store: str | None,
    update: bool,
    compare: bool,
    prices: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what CONFIG will do, cost and download; with --run, make the run there and write its plan.json.

    Without --run nothing is written, and nothing is downloaded either way.
    """
    from nlsim.cli.planning import print_comparison, print_downloads
    from nlsim.config import load_config
    from nlsim.experiments.downloads import downloads_of
    from nlsim.pipeline.plan import plan_config, write_plan

    if url is None and config is not None:
        loaded = load_config(config, overrides).config
        rows = plan_config(loaded)
    else:
        opened = open_run(config, url, overrides, store, update)
        loaded, rows = opened.config, plan_config(opened.config, opened)
        write_plan(opened, rows)
    if compare:
        print_comparison(loaded, prices, as_json)
    elif as_json:
        needed = [part._asdict() for part in downloads_of(loaded)]
        click.echo(json.dumps({"stages": [row.to_json() for row in rows], "downloads": needed}, indent=1))
    else:
        print_plan(rows)
        print_downloads(loaded)


def print_plan(rows: list[StagePlan]) -> None:
    """The plan as two tables: stages, and what the model forwards take on each kind of hardware."""
    from nlsim.pipeline.plan import HARDWARE

    cells = [
        [
            row.name,
            f"{row.shards:,}",
            row.resources.image + (f" + {row.resources.gpus} GPU" if row.resources.gpus else ""),
            table.count(row.estimate.tokens),
            table.count(row.estimate.predictions),
            table.size(row.estimate.bytes),
            f"{row.estimate.flops:.1e}" if row.estimate.flops else "–",
        ]
        for row in rows
    ]
    columns = ["stage", ">shards", "image", ">subject tokens", ">predictions", ">bytes", ">FLOP"]
    table.show("Stages", columns, cells)
    times = []
    for hardware in HARDWARE:
        seconds = [row.seconds_on(hardware) for row in rows]
        dollars = hardware.dollars_per_hour
        price = f"${sum(seconds) / 3600 * dollars:,.0f}" if dollars is not None else "–"
        heavy = max(zip(seconds, rows, strict=True), key=lambda pair: pair[0])[1].name
        times.append([hardware.name, table.duration(sum(seconds)), price, heavy])
    table.show("Model forwards on one device", ["device", ">time", ">price", "mostly"], times)
    if charged := sum(row.estimate.price for row in rows):
        click.echo(f"Endpoints charge about {charged:,.2f} (lm.prices; every prompt in full).")


@click.command()
@click.argument("name")
@click.option("--run", "url", metavar="URL", required=True, envvar="NLSIM_RUN", help="Folder or s3:// URL of the run.")
@click.option("--shard-index", type=int, help="Which shard [JOB_COMPLETION_INDEX].")
def stage(name: str, url: str, shard_index: int | None) -> None:
    """Carry out one shard of stage NAME of a planned run and commit it. This is what every container runs.

    Exit codes: 0 committed (also when it was before), 2 wrong use, 3 bad data, 4 an input is incomplete, 75 try again
    (also after SIGTERM).
    """
    from nlsim.pipeline.execute import execute_shard, stoppable
    from nlsim.pipeline.execute import shard_index as chosen
    from nlsim.pipeline.run import Run
    from nlsim.progress import LineReporter

    index = chosen(shard_index)
    every = 3.0 if os.environ.get("ARGO_PROGRESS_FILE") else 10.0
    with stoppable():
        computed = execute_shard(Run.open(url), name, index, LineReporter(every))
    click.echo(json.dumps({"stage": name, "shard": index, "committed": True, "computed": computed}))
