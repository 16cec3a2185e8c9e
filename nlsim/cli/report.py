"""`nlsim report`: make a run's report, or print its findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nlsim.cli import table
from nlsim.log import printable_json

if TYPE_CHECKING:
    from nlsim.pipeline.run import Run

TIMELINE = "report/timeline.html"


@click.command()
@click.option("--run", "url", metavar="URL", required=True, envvar="NLSIM_RUN", help="Folder or s3:// URL of the run.")
@click.option("--format", "form", type=click.Choice(["text", "md", "html", "json"]), default="text", show_default=True)
@click.option("--json", "form", flag_value="json", help="The same as --format json: every number of the report.")
@click.option(
    "--page",
    type=click.Choice(["report", "interactive", "timeline"]),
    default="report",
    show_default=True,
    help="`interactive`: continuations of prompts, token by token; computes what it still needs. `timeline`: who did "
    "what when, complete or not.",
)
def report(url: str, form: str, page: str) -> None:
    """Make the report of a run whose stages are complete, and print it as text, Markdown or JSON, or where the page
    is."""
    from nlsim.pipeline.execute import execute_shard, stoppable
    from nlsim.pipeline.run import Run
    from nlsim.progress import LineReporter

    run = Run.open(url)
    if page == "interactive":
        make_interactive(run)
        return
    if page == "timeline":
        from nlsim.report.timeline import timeline

        run.files.put(TIMELINE, timeline(run).encode())
        click.echo(f"{run.url.rstrip('/')}/{TIMELINE}")
        return
    with stoppable():
        execute_shard(run, "report", 0, LineReporter())
    if form == "md":
        table.say(run.artifact("report").path(0, "report.md").read_text(encoding="utf-8"))
    elif form == "json":
        text = run.artifact("report").path(0, "metrics.json").read_text(encoding="utf-8")
        click.echo(printable_json(text), nl=False)
    elif form == "html":
        click.echo(f"{run.url.rstrip('/')}/report/index.html")
    else:
        print_findings(run)


def make_interactive(run: Run) -> None:
    """Carry out what is missing for the interactive page, and print where it is. Raises UsageError for a run without
    prompts."""
    from nlsim.errors import UsageError
    from nlsim.pipeline.runner import carry_out, sole_runner
    from nlsim.progress import LineReporter

    if not run.config.continuations.prompts_at_most:
        raise UsageError(
            "this run continues no prompts",
            f"nlsim run {run.config.name}.yaml --run {run.url} --set continuations.documents=5 --update",
        )
    with sole_runner(run.files, False):
        for _ in carry_out(run, LineReporter(), "interactive"):
            pass
    click.echo(f"{run.url.rstrip('/')}/report/interactive.html")


def print_findings(run: Run) -> None:
    """The findings and where to read more."""
    artifact = run.artifact("report")
    artifact.refresh()
    click.echo()
    table.say(artifact.path(0, "findings.txt").read_text(encoding="utf-8").rstrip())
    click.echo(f"\nreport: {run.url.rstrip('/')}/report/index.html")
