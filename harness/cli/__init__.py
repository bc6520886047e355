"""The command line: the only place that parses arguments and prints.

Each module holds some commands, and this one lists all of them in the order of `harness --help`.
Heavy imports are inside the functions, so that help, argument errors and reports start without torch.
"""

from __future__ import annotations

import os
import sys

import typer

from harness.cli import (
    checking,
    comparing,
    complaints,
    gating,
    judging,
    machine,
    options,
    pages,
    searching,
    shelf,
    studies,
    tricks,
)
from harness.ending import orderly

app = typer.Typer(
    name="harness",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Does this training trick help my image classifier, by how much, how sure are we, and what does it cost?",
)

app.callback()(complaints.options)
app.command("ablate", cls=options.Renamed)(studies.ablate)
app.command("plan", cls=options.Renamed)(studies.plan)
app.command("run", cls=options.Renamed)(studies.run)
app.command("check", cls=options.Renamed)(checking.check)
app.command("gate")(gating.gate)
app.command("replicate")(studies.replicate)
app.command("search")(searching.search)
app.command("judge")(judging.judge)
app.command("compare")(comparing.compare)
app.command("site")(pages.site)
app.command("report")(pages.report)
app.command("ls")(shelf.ls)
app.command("show")(shelf.show)
app.command("rm")(shelf.rm)
app.command("tricks")(tricks.tricks)
app.command("publish")(pages.publish)
app.command("bench")(machine.bench)
app.command("new-trick")(machine.new_trick)
app.command("new-network")(machine.new_network)
app.command("new-data")(machine.new_data)
app.command("doctor")(machine.doctor)


def main() -> None:
    """Entry point: user errors, failing file systems and signals end with one line, never a traceback.

    Exit codes: 2 for errors, 130 (SIGINT), 143 (SIGTERM) and 129 (SIGHUP).
    """
    orderly(_command)


def _command() -> None:
    try:
        sys.exit(app(complaints.checked(sys.argv[1:]), standalone_mode=False))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        sys.exit(complaints.complain(error))
