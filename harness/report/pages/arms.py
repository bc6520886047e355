"""The section with every arm of a study: the ablation table with drawings, flags and what a script sorts by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.analysis.types import Analysis, Finding
from harness.report.drawings.effects import interval_bar, seed_ticks, tick_reach
from harness.report.drawings.lanes import declared_margin, drawable, effect_span
from harness.report.text.numbers import decimals, in_unit, sort_key
from harness.report.text.tables import Column, columns, effect_rows, strong_in
from harness.store.schema import Manifest
from harness.tricks.kinds import ADDITION

FIRST = ("arm", "kind", "effect", "low", "wins", "n", "p", "p_holm")
"""Columns that come first, so that a narrow window shows them without scrolling."""


@dataclass(frozen=True)
class ArmRow:
    """One arm, or the baseline; a cell has its column's key, text, sort key and drawing, or an empty text for none.

    `kind` is that of its verdict, `does` that of its tricks. `strong` where the interval excludes zero; `flags` are
    problems and warnings with their numbers on the page.
    """

    arm: str
    kind: str
    verdict: str
    unstable: bool
    n: int
    reason: str
    cells: Sequence[tuple[str, str, str, Markup | str]]
    strong: bool
    flags: Sequence[tuple[int, Finding]]
    command: str | None
    does: str


@dataclass(frozen=True)
class ArmTable:
    """What the template shows: `places` numbers the arms, and `reach` is what the tallest ticks of seeds stand for."""

    columns: Sequence[Column]
    rows: Sequence[ArmRow]
    places: Mapping[str, int]
    reach: str


def arm_table(
    manifest: Manifest,
    analysis: Analysis,
    findings: Sequence[tuple[Finding, Sequence[str]]],
    commands: Mapping[str, str],
    kinds: Mapping[str, str],
) -> ArmTable:
    """The ablation table with what only the page needs; its numbers are those of `effect_rows`.

    `kinds` says of each arm what it does to the baseline.
    """
    by_key = {c.key: c for c in columns(analysis)}
    # The seeds stand beside the interval that sums them up.
    found = [by_key[key] for key in dict.fromkeys((*(k for k in FIRST if k in by_key), *by_key))]
    shown = [c for c in found if c.key not in ("arm", "kind")]
    effects, drawn = {e.arm: e for e in analysis.effects}, drawable(analysis.effects)
    span, reach = effect_span(drawn, declared_margin(analysis)), tick_reach(analysis.effects)
    flags: dict[str, list[tuple[int, Finding]]] = {}
    for i, (finding, arms) in enumerate(findings):
        for arm in arms if finding.severity != "info" else ():
            flags.setdefault(arm, []).append((i, finding))
    rows = []
    for values in effect_rows(analysis):
        effect = effects.get(values["arm"])
        drawings = {
            "low": interval_bar(effect, analysis, span) if effect in drawn else "",
            "wins": seed_ticks(effect, manifest.seeds, analysis, reach) if effect and effect.n else "",
        }
        rows.append(
            ArmRow(
                **{name: values[name] for name in ("arm", "kind", "verdict", "unstable", "n", "reason")},
                cells=[(c.key, c.show(values), sort_key(values[c.key]), drawings.get(c.key, "")) for c in shown],
                strong=strong_in(values),
                flags=flags.get(values["arm"], ()),
                command=commands.get(values["arm"]),
                does=kinds.get(values["arm"], ADDITION),
            )
        )
    return ArmTable(
        columns=found,
        rows=rows,
        places={arm.label: i for i, arm in enumerate(manifest.arms)},
        reach=in_unit(round(reach, decimals(analysis)), analysis.unit),
    )
