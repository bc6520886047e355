"""How commands that judge end where a script or a job reads them: an exit code by verdict, and a job's summary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from harness.errors import UserError, did_you_mean
from harness.values import parted

if TYPE_CHECKING:
    from harness.report.load import Loaded

FailOn = Annotated[
    str | None,
    typer.Option("--fail-on", help="Exit code 3 if the verdict of an arm is one of these: hurts,likely hurts."),
]
Summary = Annotated[
    str | None, typer.Option("--summary", help="github: the table goes into the summary of the job on GitHub, too.")
]
ENDS: dict[str, Any] = {"fail_on": FailOn, "summary": Summary}
"""The options by parameter, for `command_for`."""

FOUND = 3
"""The exit code of --fail-on."""

VARIABLE = "GITHUB_STEP_SUMMARY"
"""Names the file of a job's summary on GitHub."""


@dataclass(frozen=True)
class Ends:
    """What was asked of the end, which is looked at before anything trains.

    Raises:
        UserError: a verdict that there is none of, or a summary that cannot be written.
    """

    fail_on: str | None = None
    summary: str | None = None

    def __post_init__(self) -> None:
        from harness.analysis.types import VerdictKind

        known = get_args(VerdictKind)
        for kind in self.kinds:
            if kind not in known:
                raise UserError(
                    f"--fail-on {kind}: no such verdict{did_you_mean(kind, known)} Known: {', '.join(known)}"
                )
        if self.fail_on is not None and not self.kinds:
            raise UserError(f"--fail-on '{self.fail_on}': it names no verdict, such as hurts")
        if self.summary not in (None, "github"):
            raise UserError(f"--summary {self.summary}: github is the only one")
        if self.summary and VARIABLE not in os.environ:
            raise UserError(f"--summary github: {VARIABLE} is not set, so this is no job of GitHub; leave it out")

    @property
    def kinds(self) -> Sequence[str]:
        """The verdicts of --fail-on."""
        return parted(self.fail_on or "")

    def finish(self, studies: Iterable[Loaded]) -> None:
        """Write the summary, and end with exit code 3 if an arm has such a verdict."""
        found = []
        for study in studies:
            effects = study.analysis.effects
            if self.summary:
                add_summary(_markdown(study))
            found += [f"{e.arm}: {e.verdict.kind}" for e in effects if e.verdict.kind in self.kinds]
        if found:
            typer.echo(f"--fail-on {self.fail_on}: {', '.join(found)}", err=True)
            raise typer.Exit(FOUND)


def add_summary(text: str) -> None:
    """Add text to the summary of the job, where this is one."""
    if VARIABLE in os.environ:
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
            file.write(text)


def _markdown(study: Loaded) -> str:
    """A study's question, table and sentences."""
    from harness.report.text.tables import markdown_escape, to_markdown

    sentences = "\n".join(f"* {markdown_escape(e.verdict.sentence)}" for e in study.analysis.effects)
    return f"### {markdown_escape(study.manifest.question)}\n\n{to_markdown(study.analysis)}\n{sentences}\n\n"
