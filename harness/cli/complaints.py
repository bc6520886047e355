"""How a command ends that cannot go on: lines that say what to do, and an exit code."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import DEBUG, UserError
from harness.values import readable, shown
from harness.version import __version__

BAD_INPUT = 2


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


def options(
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the traceback of what goes wrong, also in workers; or set {DEBUG}=1.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say the version, and exit.")
    ] = False,
) -> None:
    """What holds for every command; the program's help is its own."""
    if debug:
        os.environ[DEBUG] = "1"  # which workers inherit


def checked(words: Sequence[str]) -> list[str]:
    """The words of a command line, which must be text that can be printed and stored.

    Raises:
        UserError: one is not.
    """
    for word in words:
        if not readable(word):
            raise UserError(
                f"{shown(word)}: an argument may not hold control characters, and must be UTF-8; a link with a plain "
                "name helps where a file has no other"
            )
    return list(words)


def complain(error: Exception) -> int:
    """Print what ended a command as lines that begin with "error: ", and return the exit code."""
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    for line in _lines(error):
        typer.echo(f"error: {line}", err=True)
    return BAD_INPUT


def _lines(error: Exception) -> list[str]:
    if isinstance(error, UserError):
        return str(error).splitlines()
    usage = getattr(error, "format_message", None)  # of the parser of arguments
    if usage is not None:
        command = getattr(getattr(error, "ctx", None), "command_path", "harness")
        said = " ".join(str(usage()).split())
        return [f"{said} `{command} --help` lists what there is."] if said else []  # help itself was printed
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return [f"{error.strerror or error}{where}; finished runs are stored"]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    why = (str(error).splitlines() or [""])[0]
    return [
        f"{type(error).__name__}: {why} ({Path(frame.filename).name}:{frame.lineno}): a fault of this program; "
        "`harness --debug ...` shows where, and finished runs are stored"
    ]
