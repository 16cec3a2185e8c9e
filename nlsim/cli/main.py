"""`nlsim`: commands are imported when they are called, so that help is instant."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

import click

COMMANDS = {
    "init": ("nlsim.cli.init:init", "Write a configuration, every setting explained."),
    "run": ("nlsim.cli.run:run", "Carry out a configuration, resuming where it was."),
    "plan": ("nlsim.cli.run:plan", "Show stages, shards, sizes and cost; write plan.json."),
    "status": ("nlsim.cli.inspect:status", "Draw a run's pipeline with what is done."),
    "report": ("nlsim.cli.report:report", "Make or print a run's report."),
    "show": ("nlsim.cli.look:show", "Show a latent with its contexts, or explanations."),
    "diff": ("nlsim.cli.look:diff", "Compare the numbers of two runs."),
    "import": ("nlsim.cli.exchange:import_", "Take over other tools' activations, explanations, scores."),
    "export": ("nlsim.cli.exchange:export", "Write a run in other tools' forms."),
    "verify": ("nlsim.cli.inspect:verify", "Check every committed byte of a run."),
    "gc": ("nlsim.cli.inspect:gc", "Delete what no commit names."),
    "stage": ("nlsim.cli.run:stage", "Carry out one shard of one stage, as containers do."),
    "config": ("nlsim.cli.config:config", "Show a resolved configuration, or the schema."),
    "models": ("nlsim.cli.models:models", "Train the embedded models: coders, tiny fixtures, the simulator."),
    "finetune": ("nlsim.cli.finetune:finetune", "Teach a language model to simulate."),
    "bench": ("nlsim.cli.bench:bench", "Measure this machine."),
    "render": ("nlsim.cli.cluster:render", "Write the Argo workflow template of a configuration."),
    "submit": ("nlsim.cli.cluster:submit", "Submit a run to a cluster."),
    "fan-out": ("nlsim.cli.cluster:fan_out", "In a workflow: write what is left of each stage."),
    "record": ("nlsim.cli.cluster:record", "In a workflow: write how it ended to the run."),
    "doctor": ("nlsim.cli.doctor:doctor", "Check this machine's installation."),
}
"""Command → where it lives, and its line in the help."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="nlsim", prog_name="nlsim")
@click.option("--debug", is_flag=True, help="Show debug logs, and the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """How much of a language model survives when part of it is replaced by plain-English explanations?

    Start with `nlsim run configs/tiny.yaml`. A run is a folder or an s3:// URL; every command resumes.
    """
    from nlsim import log

    ctx.obj = {"debug": debug}
    log.setup(debug)


def terminated(_number: int, _frame: FrameType | None) -> None:
    """What SIGTERM does outside a shard: between shards nothing is half done, so the program ends at once."""
    os.write(2, b"nlsim: stopped; run the same command again\n")  # print would fail where it interrupts itself
    sys.exit(75)


def main() -> None:
    """Run the command line; expected errors become one line on stderr and their exit code."""
    signal.signal(signal.SIGTERM, terminated)
    from nlsim.errors import NlsimError, is_out_of_memory, too_little_memory
    from nlsim.log import one_line, printable

    words = sys.argv[1:]
    debug = "--debug" in words
    if debug:  # accepted anywhere on the line
        words = ["--debug", *(word for word in words if word != "--debug")]
    try:
        cli.main(words, "nlsim", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("nlsim: interrupted; run the same command again to carry on", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            print(printable(traceback.format_exc()), file=sys.stderr)  # noqa: T201
        if is_out_of_memory(error):
            error = too_little_memory("this command")
        if not isinstance(error, NlsimError):
            error = NlsimError(f"unexpected {type(error).__name__}: {error} (this is a bug; --debug shows where)")
        line = one_line(f"nlsim: {error}")
        print(line, file=sys.stderr)  # noqa: T201
        if note := os.environ.get("NLSIM_TERMINATION_LOG"):  # a pod's: Kubernetes and Argo show it as the reason
            Path(note).write_text(line + "\n", encoding="utf-8")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
