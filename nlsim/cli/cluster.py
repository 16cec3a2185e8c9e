"""`nlsim render` and `nlsim submit`, and what a workflow's own steps run: `fan-out` and `record`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nlsim.cli import table
from nlsim.errors import UsageError
from nlsim.log import printable

if TYPE_CHECKING:
    from argo.api import Api
    from argo.cluster import Cluster
    from nlsim.config import Config

SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable.")
CLUSTER = click.option("--cluster", "settings", metavar="FILE", help="Settings of the cluster (docs/cluster.md).")
RUN = click.option("--run", "url", metavar="URL", required=True, envvar="NLSIM_RUN", help="URL of the run.")

STATUS = "status.json"
"""Key, in the run, of what `record` writes."""


@click.command()
@click.argument("config")
@SET
@CLUSTER
@click.option("--to", "folder", metavar="FOLDER", help="Write FOLDER/<name>.yaml instead of printing.")
def render(config: str, overrides: tuple[str, ...], settings: str | None, folder: str | None) -> None:
    """Write the Argo WorkflowTemplate of CONFIG as YAML."""
    from argo.cluster import load_cluster
    from argo.render import template, to_yaml
    from nlsim.config import load_config

    manifest = template(load_config(config, overrides).config, load_cluster(settings))
    if folder is None:
        click.echo(to_yaml(manifest), nl=False)
        return
    path = Path(folder) / f"{manifest['metadata']['name']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_yaml(manifest), encoding="utf-8")
    click.echo(str(path))


@click.command()
@click.argument("config")
@click.option("--run", "url", metavar="URL", required=True, help="s3://bucket/prefix of the run.")
@SET
@CLUSTER
@click.option("--store", metavar="URL", help="Share stage outputs with other runs at this URL.")
@click.option("--update", is_flag=True, help="Move an existing run to a changed configuration.")
@click.option("--engine", type=click.Choice(["argo", "job"]), default="argo", show_default=True)
@click.option("--namespace", metavar="NAME", help="Instead of the cluster settings' namespace.")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig [the current one].")
@click.option("--follow", is_flag=True, help="Stay until it ends; exit non-zero if it fails. `job` always does.")
@click.option("--pending-minutes", default=30.0, show_default=True, help="Give up on a pod that no node takes.")
@click.option("--confirm", is_flag=True, envvar="CONFIRM", help="Yes, this is the production cluster.")
@click.option("--dry-run", is_flag=True, help="Only check the cluster; submit nothing.")
def submit(
    config: str,
    url: str,
    overrides: tuple[str, ...],
    settings: str | None,
    store: str | None,
    update: bool,
    engine: str,
    namespace: str | None,
    context: str | None,
    follow: bool,
    pending_minutes: float,
    confirm: bool,
    dry_run: bool,
) -> None:
    """Submit CONFIG to a cluster: as an Argo workflow, or as Indexed Jobs where there is no Argo.

    Checks the cluster first and says what is missing. Submitting a half-done run again does only the rest.
    """
    from argo.api import connect
    from argo.cluster import load_cluster
    from nlsim.config import load_config
    from nlsim.pipeline.run import Run

    loaded = load_config(config, overrides).config
    cluster = load_cluster(settings)
    if namespace is not None:
        cluster = cluster.model_copy(update={"namespace": namespace})
    if not url.startswith("s3://"):
        raise UsageError(f"--run {url}: pods cannot reach a folder of this machine", "give an s3://bucket/prefix")
    api = connect(cluster.namespace, context, confirm)
    click.echo(f"context {api.context}, namespace {api.namespace}")
    check(api, cluster, engine, loaded)
    if dry_run:
        click.echo("everything that the run needs is there")
        return
    run = Run.create(url, loaded, store, update)
    if engine == "job":
        from argo.jobs import Controller

        Controller(api, cluster, run, table.say, pending_minutes).carry_out()
    else:
        start_workflow(api, cluster, loaded, url, follow, pending_minutes)
    if engine == "job" or follow:
        click.echo(f"report: {url.rstrip('/')}/report/index.html")


def check(api: Api, cluster: Cluster, engine: str, config: Config) -> None:
    """Print every missing thing on a line; raise UsageError if there is any."""
    from argo.checks import problems
    from argo.render import shapes

    found = problems(api, cluster, engine, shapes(config))
    for problem in found:
        click.echo(printable(f"  missing: {problem}"), err=True)
    if found:
        raise UsageError(
            f"{len(found)} thing{'s' if len(found) > 1 else ''} missing in namespace {api.namespace}", found[0]
        )


def start_workflow(api: Api, cluster: Cluster, config: Config, url: str, follow: bool, pending_minutes: float) -> None:
    """Submit, and say how to watch."""
    from argo import workflows
    from argo.render import template

    submitted = workflows.submit(api, template(config, cluster), url, config.name)
    if not submitted.created:
        click.echo(f"workflow {submitted.name} is at work on this run already")
    click.echo(f"workflow {submitted.name}")
    click.echo(f"watch:  argo watch -n {api.namespace} {submitted.name}")
    click.echo(f"report: {url.rstrip('/')}/report/index.html (when it is done)")
    if follow:
        workflows.follow(api, submitted.name, table.say, pending_minutes)


@click.command()
@RUN
@click.option("--to", "folder", required=True, metavar="FOLDER", help="Where the files go, one per stage.")
@click.option("--max-pods", default=1000, show_default=True, help="Refuse a longer list of indices.")
@click.option("--job", "jobs", multiple=True, metavar="STAGE=SHARDS", help="A stage that runs as one Indexed Job.")
def fan_out(url: str, folder: str, max_pods: int, jobs: tuple[str, ...]) -> None:
    """Write plan.json, and what is left of each stage as a workflow reads it.

    FOLDER/STAGE holds the JSON list of missing shard indices; for a stage that runs as a Job, how many are missing.
    """
    from nlsim.pipeline.plan import plan_config, write_plan
    from nlsim.pipeline.run import Run

    run = Run.open(url)
    write_plan(run, plan_config(run.config))
    as_job = dict(job.split("=", 1) for job in jobs)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for stage in run.pipeline.stages:
        artifact = run.artifact(stage.name)
        missing = artifact.missing()
        if stage.name in as_job and as_job[stage.name] != str(artifact.shards):
            raise UsageError(
                f"the template was made for {as_job[stage.name]} shards of {stage.name}, the run has {artifact.shards}",
                "render the template from the run's own configuration",
            )
        if stage.name not in as_job and len(missing) > max_pods:
            raise UsageError(
                f"{stage.name} has {len(missing)} shards to do, more than {max_pods} pods",
                "render the template from the run's own configuration",
            )
        left = len(missing) if stage.name in as_job else missing
        (Path(folder) / stage.name).write_text(json.dumps(left, separators=(",", ":")), encoding="utf-8")
        click.echo(f"{stage.name}: {len(missing)} of {artifact.shards} shards to do")


@click.command()
@RUN
@click.option("--state", required=True, help="How the workflow ended.")
@click.option("--by", "name", required=True, help="Name of the workflow.")
def record(url: str, state: str, name: str) -> None:
    """Write how a workflow ended, and how far each stage is, to the run's status.json."""
    from nlsim.pipeline.run import Run

    run = Run.open(url)
    stages = {
        stage.name: {"shards": run.artifact(stage.name).shards, "missing": len(run.artifact(stage.name).missing())}
        for stage in run.pipeline.stages
    }
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    status = {"schema": 1, "workflow": name, "state": state, "finished": finished, "stages": stages}
    run.files.put(STATUS, json.dumps(status, indent=1).encode() + b"\n")
    click.echo(json.dumps(status))
