"""`nlsim status`, `verify` and `gc`: views of a run's commit records."""

from __future__ import annotations

import json

import click

from nlsim.cli import table
from nlsim.errors import DataError

URL = click.argument("url", metavar="RUN")


@click.command()
@URL
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def status(url: str, as_json: bool) -> None:
    """Draw the pipeline of RUN (a folder or s3:// URL) with how many shards of each stage are committed."""
    from nlsim.pipeline.run import Run

    run = Run.open(url)
    rows = []
    for stage in run.pipeline.stages:
        artifact = run.artifact(stage.name)
        missing = artifact.missing()
        rows.append((stage.name, artifact.shards, len(missing), artifact.fingerprint, missing[:8]))
    if as_json:
        keys = ("stage", "shards", "missing", "fingerprint", "first_missing")
        click.echo(json.dumps({"run": url, "stages": [dict(zip(keys, row, strict=True)) for row in rows]}, indent=1))
        return
    cells = []
    for name, shards, missing_count, fingerprint, first in rows:
        done = shards - missing_count
        bar = "█" * round(12 * done / shards) if shards else ""
        gaps = ", ".join(map(str, first)) + (", …" if missing_count > len(first) else "") if done else ""
        cells.append([name, f"{bar:·<12}", f"{done:,}/{shards:,}", fingerprint, gaps])
    table.show(f"{run.config.name}: {url}", ["stage", "", ">shards", "fingerprint", "missing shards"], cells)
    waiting = next((row[0] for row in rows if row[2]), None)
    click.echo("complete" if waiting is None else f"next: {waiting}; carry on with `nlsim run --run {url}`")


@click.command()
@URL
@click.option("--repair", is_flag=True, help="Forget the commits of damaged shards, so that the next run redoes them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(url: str, repair: bool, as_json: bool) -> None:
    """Read every committed object of RUN and check its size and SHA-256. Exits 3 when something is damaged."""
    from nlsim.pipeline.run import Run

    run = Run.open(url)
    found = {stage.name: run.artifact(stage.name).verify(repair=repair) for stage in run.pipeline.stages}
    damaged = sum(map(len, found.values()))
    if as_json:
        click.echo(json.dumps({"run": url, "damaged": found, "repaired": repair and bool(damaged)}, indent=1))
    else:
        for name, problems in found.items():
            for problem in problems:
                click.echo(f"{name}: {problem}")
    if as_json and (repair or not damaged):
        return
    if not damaged:
        click.echo("every committed object is as it was written")
    elif repair:
        click.echo(f"{damaged} damaged; their commits are removed: `nlsim run --run {url}` recomputes them")
    else:
        raise DataError(f"{damaged} damaged objects in {url}", f"`nlsim verify {url} --repair`, then run it again")


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
