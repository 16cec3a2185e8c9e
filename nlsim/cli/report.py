"""`nlsim report`: make a run's report, or print its findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nlsim.pipeline.run import Run


@click.command()
@click.option("--run", "url", metavar="URL", required=True, envvar="NLSIM_RUN", help="Folder or s3:// URL of the run.")
@click.option("--format", "form", type=click.Choice(["text", "md", "html"]), default="text", show_default=True)
def report(url: str, form: str) -> None:
    """Make the report of a run whose stages are complete, and print it as text or Markdown, or where the page is."""
    from nlsim.pipeline.execute import execute_shard, stoppable
    from nlsim.pipeline.run import Run
    from nlsim.progress import LineReporter

    run = Run.open(url)
    with stoppable():
        execute_shard(run, "report", 0, LineReporter())
    if form == "md":
        click.echo(run.artifact("report").path(0, "report.md").read_text(encoding="utf-8"))
    elif form == "html":
        click.echo(f"{run.url.rstrip('/')}/report/index.html")
    else:
        print_findings(run)


def print_findings(run: Run) -> None:
    """The findings and where to read more."""
    artifact = run.artifact("report")
    artifact.refresh()
    click.echo()
    click.echo(artifact.path(0, "findings.txt").read_text(encoding="utf-8").rstrip())
    click.echo(f"\nreport: {run.url.rstrip('/')}/report/index.html")
