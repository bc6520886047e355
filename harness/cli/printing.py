"""What the commands print of studies: plans, findings of a design, comparisons."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from harness.cli.options import duration
from harness.experiment import RunSpec

if TYPE_CHECKING:
    from harness.analysis.compare import Comparison
    from harness.analysis.types import DesignAnalysis, Finding
    from harness.report.load import Loaded
    from harness.study.forecast import Forecast
    from harness.study.plan import Plan


MANY_ARMS = 8
"""With more arms than this, their verdicts are counted, too."""


def print_plan(plan: Plan, ahead: Forecast) -> None:
    """What would run, how long, how large, and what it could and could not find."""
    m = plan.manifest
    typer.echo(f"{m.study}: {len(m.arms)} arms x {ahead.seeds} seeds, {ahead.runs} runs ({m.scope})")
    for arm in m.arms:
        typer.echo(f"  {arm.label}" + (f"  skipped: {arm.skipped}" if arm.skipped else ""))
        words = next((s.run for s in plan.specs if s.run_id in arm.run_ids.values() and not isinstance(s, RunSpec)), ())
        if words:
            typer.echo(f"    {shlex.join(words)}")
    for note in m.sentences:
        typer.echo(f"  note: {note}")
    for stage in m.stages:
        count = f"{len(stage.runs)} run{'s' if len(stage.runs) > 1 else ''}"
        typer.echo(f"  first: {count} of {stage.label}, for {', '.join(stage.arms)}")
    stages = f", and {ahead.stages} that they need" if ahead.stages else ""
    typer.echo(f"to train: {ahead.missing} runs{stages}; {ahead.runs - ahead.missing} are stored already")
    if ahead.missing:
        time = "unknown" if math.isnan(ahead.seconds) else f"about {duration(ahead.seconds)}"
        typer.echo(f"time: {time} ({ahead.seconds_from}); disk: {ahead.disk / 1e6:.1f} MB")
    if ahead.seeds < 5:
        typer.echo(f"verdicts: none; {ahead.seeds} seeds are fewer than the 5 that a verdict needs")
    if not ahead.sd_pairs:
        typer.echo(
            f"effects: no stored pairs of this workload say how much seeds vary; with 80 % power, {ahead.seeds} seeds "
            f"find effects from {ahead.smallest:.2f} standard deviations of the paired difference"
        )
        return
    typer.echo(
        f"effects: with 80 % power, {ahead.seeds} seeds find effects from {ahead.smallest:.2f} points and miss smaller "
        f"ones (paired deviation {ahead.sd:.2f} points, from {ahead.sd_pairs} stored pairs)"
    )
    if ahead.for_margin is None or ahead.for_margin > ahead.seeds:
        many = f"{ahead.for_margin} seeds" if ahead.for_margin else "more than 1000 seeds"
        typer.echo(f"  the margin of {ahead.margin:g} points would need {many}")


def print_findings(written: Loaded, findings: Sequence[tuple[Finding, list[str]]]) -> None:
    """The verdicts of a study, what its design adds to them, and what its curves warn of."""
    for effect in written.analysis.effects:
        typer.echo(effect.verdict.sentence)
    if len(written.analysis.effects) > MANY_ARMS:
        typer.echo(written.counts)
    for probe in (p for p in written.probes if p.n):
        typer.echo(
            f"probe {probe.arm} at {probe.factor:.3g} of its learning rate: test accuracy {probe.mean:.1f} % "
            f"(lowest {probe.low:.1f}, highest {probe.high:.1f}) over {probe.n} of {probe.n_planned} seeds, "
            f"{probe.full:.1f} % at the whole rate, baseline {probe.baseline:.1f} %"
        )
    if written.looked:
        typer.echo(f"note: {written.looked}")
    if written.design is not None:
        _print_design(written.design)
    for finding, arms in findings:
        if finding.severity != "info":
            typer.echo(f"{finding.severity}: {finding.title} ({', '.join(arms)}): {finding.evidence}")


def _print_design(design: DesignAnalysis) -> None:
    """Main effects, interactions and steps, one line each; the page has all tables."""
    for kind, estimates in (
        ("main effect", design.fit.main if design.fit else ()),
        ("interaction", design.interactions),
        ("step", design.steps),
    ):
        for e in estimates:
            typer.echo(
                f"{kind} {e.name}: {e.mean:+.2f} {design.unit} [{e.low:.2f}, {e.high:.2f}] over {e.n} seeds, "
                f"p = {e.p:.2g}, {e.p_holm:.2g} after Holm's correction"
            )
    for note in design.notes:
        typer.echo(f"note: {note}")


def print_replication(written: Loaded) -> None:
    """Old and fresh effects side by side, and what held; nothing of a study that replicates none."""
    from harness.report.text.numbers import decimals
    from harness.report.text.replications import rows

    found = written.replication
    if found is not None:
        _print_table(rows(found, decimals(written.analysis)))
        for note in found.notes:
            typer.echo(f"note: {note}")
        typer.echo(found.summary)


def print_comparison(comparison: Comparison) -> None:
    """The same arms in several studies: effects side by side, heterogeneity, sign flips."""
    from harness.report.text.comparison import rows

    _print_table(rows(comparison) or [{"no arm is in more than one study": ""}])


def _print_table(listed: Sequence[Mapping[str, str]]) -> None:
    """Rows with a text by heading, as wide as the terminal."""
    from rich.console import Console
    from rich.table import Table

    out = Table(box=None, pad_edge=False)
    for column in listed[0] if listed else ():
        out.add_column(column, overflow="fold")
    for row in listed:
        out.add_row(*row.values())
    Console(highlight=False).print(out)
