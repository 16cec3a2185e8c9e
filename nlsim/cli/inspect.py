"""`nlsim status`, `verify` and `gc`: views of a run's commit records."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import click

from nlsim.cli import table
from nlsim.errors import DataError
from nlsim.log import printable

if TYPE_CHECKING:
    from nlsim.store.failures import FailedShard

FAILURES_SHOWN = 8

URL = click.argument("url", metavar="RUN")


@click.command()
@URL
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def status(url: str, as_json: bool) -> None:
    """Draw the pipeline of RUN (a folder or s3:// URL) with how many shards of each stage are committed, and why
    attempts at others failed."""
    from nlsim.pipeline.run import Run
    from nlsim.store.failures import failed_shards

    run = Run.open(url)
    rows = []
    failed: list[FailedShard] = []
    for stage in run.pipeline.stages:
        artifact = run.artifact(stage.name)
        missing = artifact.missing()
        rows.append((stage.name, artifact.shards, len(missing), artifact.fingerprint, missing[:8]))
        if missing:
            failed += failed_shards(artifact, frozenset(missing), FAILURES_SHOWN - len(failed))
    if as_json:
        keys = ("stage", "shards", "missing", "fingerprint", "first_missing")
        stages = [dict(zip(keys, row, strict=True)) for row in rows]
        reasons = [
            {"attempts": one.attempts, **one.last.model_dump(exclude={"version"}), "retry": retry(url, one)}
            for one in failed
        ]
        click.echo(json.dumps({"run": url, "stages": stages, "failures": reasons}, indent=1))
        return
    cells = []
    for name, shards, missing_count, fingerprint, first in rows:
        done = shards - missing_count
        bar = "█" * round(12 * done / shards) if shards else ""
        gaps = ", ".join(map(str, first)) + (", …" if missing_count > len(first) else "") if done else ""
        cells.append([name, f"{bar:·<12}", f"{done:,}/{shards:,}", fingerprint, gaps])
    table.show(f"{run.config.name}: {url}", ["stage", "", ">shards", "fingerprint", "missing shards"], cells)
    for one in failed:
        when = datetime.datetime.fromtimestamp(one.last.ended, datetime.UTC).isoformat(" ", "seconds")
        times = f"{one.attempts} times, last " if one.attempts > 1 else ""
        where = f"{one.last.stage} {one.shard} failed {times}on {one.last.host} at {when[:19]}Z"
        click.echo(printable(f"{where} (exit {one.last.exit_code}): {one.last.reason}"))
        click.echo(printable(f"  again: {retry(url, one)}"))
    waiting = next((row[0] for row in rows if row[2]), None)
    click.echo("complete" if waiting is None else f"next: {waiting}; carry on with `nlsim run --run {url}`")


def retry(url: str, failed: FailedShard) -> str:
    """The command that tries a shard again."""
    return f"nlsim stage {failed.last.stage} --run {url} --shard-index {failed.shard}"


@click.command()
@URL
@click.option("--repair", is_flag=True, help="Forget the commits of damaged shards, so that the next run redoes them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(url: str, repair: bool, as_json: bool) -> None:
    """Read every committed object of RUN and check its size and SHA-256. Exits 3 when something is damaged."""
    from nlsim.pipeline.run import Run
    from nlsim.pipeline.runner import sole_runner

    run = Run.open(url)
    found: dict[str, list[str]] = {}
    withdrawn: dict[str, list[int]] = {}
    with sole_runner(run.files, join=not repair):
        for stage in run.pipeline.stages:
            artifact = run.artifact(stage.name)
            before = artifact.committed
            found[stage.name] = artifact.verify(repair=repair)
            if gone := sorted(before - artifact.committed):
                withdrawn[stage.name] = gone
        copies = run.check_published(repair)
    damaged = sum(map(len, found.values())) + len(copies)
    if as_json:
        facts = {"run": url, "damaged": found, "copies": copies, "withdrawn": withdrawn, "repaired": repair}
        click.echo(json.dumps(facts, indent=1))
    else:
        for name, lines in [*found.items(), ("copy", copies)]:
            for line in lines:
                click.echo(printable(f"{name}: {line}"))
        for name, shards in withdrawn.items():
            click.echo(f"{name}: forgot the commit of {'shards' if len(shards) > 1 else 'shard'} {listed(shards)}")
    if damaged and not repair:
        raise DataError(f"{damaged} damaged objects in {url}", f"`nlsim verify {url} --repair`, then run it again")
    if as_json:
        return
    if not damaged:
        click.echo("every committed object is as it was written")
    elif withdrawn:
        click.echo(f"`nlsim run --run {url}` recomputes exactly these; nothing was computed from damaged bytes")
    if copies:
        click.echo(f"{len(copies)} published copies are made again")


def listed(shards: list[int]) -> str:
    """`1, 2, 7`; the first twenty of many."""
    return ", ".join(map(str, shards[:20])) + (f" and {len(shards) - 20} more" if len(shards) > 20 else "")


@click.command()
@URL
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option("--grace-hours", default=24.0, show_default=True, help="Leave attempts younger than this alone.")
@click.option("--unreferenced", is_flag=True, help="Also delete outputs of configurations the run has left behind.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def gc(url: str, dry_run: bool, grace_hours: float, unreferenced: bool, as_json: bool) -> None:
    """Delete what failed or interrupted attempts left in RUN. Committed data of the run are never touched."""
    from nlsim.errors import UsageError
    from nlsim.pipeline.run import Run
    from nlsim.store.gc import collect_garbage

    run = Run.open(url)
    if unreferenced and run.lineage.store is not None:
        raise UsageError("--unreferenced is only for a run with a store of its own", "other runs may use these outputs")
    found = collect_garbage(run.store, grace_hours * 3600, remove=not dry_run)
    verb = "would delete" if dry_run else "deleted"
    facts = {"run": url, "removed": not dry_run, "unfinished": {"objects": found.objects, "bytes": found.bytes}}
    if not as_json:
        click.echo(f"{verb} {found.objects:,} objects of unfinished attempts, {table.size(found.bytes)}")
    if unreferenced:
        stale = [
            info
            for name, lineage in run.lineage.stages.items()
            for info in run.store.list(f"{name}/")
            if not info.key.startswith(f"{name}/{lineage.fingerprint}/")
        ]
        if not dry_run:
            run.store.delete(info.key for info in stale)
        left = sum(info.size for info in stale)
        facts["unreferenced"] = {"objects": len(stale), "bytes": left}
        if not as_json:
            behind = f"{len(stale):,} objects of configurations this run has left behind"
            click.echo(f"{verb} {behind}, {table.size(left)}")
    if as_json:
        click.echo(json.dumps(facts, indent=1))
