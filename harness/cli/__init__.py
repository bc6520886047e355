"""The command line: the only place that parses arguments and prints.

Each module holds some commands, and this one lists all of them in the order of `harness --help`.
Heavy imports are inside the functions, so that help, argument errors and reports start without torch.
"""

from __future__ import annotations

import os
import sys

import typer

from harness.cli import machine, pages, searching, studies
from harness.ending import orderly
from harness.errors import UserError

app = typer.Typer(
    name="harness",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?",
)

app.command("ablate")(studies.ablate)
app.command("plan")(studies.plan)
app.command("run")(studies.run)
app.command("search")(searching.search)
app.command("compare")(studies.compare)
app.command("site")(pages.site)
app.command("report")(pages.report)
app.command("tricks")(pages.tricks)
app.command("publish")(pages.publish)
app.command("bench")(machine.bench)
app.command("new-trick")(machine.new_trick)
app.command("doctor")(machine.doctor)


def main() -> None:
    """Entry point: user errors, failing file systems and signals end with one line, never a traceback.

    Exit codes: 2 for errors, 130 (SIGINT), 143 (SIGTERM) and 129 (SIGHUP).
    """
    orderly(_command)


def _command() -> None:
    try:
        app(standalone_mode=True)
    except UserError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        typer.echo(f"error: {error.strerror or error}{where}; finished runs are stored", err=True)
        sys.exit(2)
