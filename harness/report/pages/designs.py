"""The section on designs in which tricks meet: its drawings and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.analysis.types import Analysis, DesignAnalysis, Estimate
from harness.report.drawings.designs import half_normal, interaction_map, waterfall
from harness.report.drawings.lanes import drawable
from harness.report.text.numbers import decimals


@dataclass(frozen=True)
class DesignSection:
    """What the template shows: drawings that the design does not allow are None.

    A table has a title, its meaning, and rows.
    """

    found: DesignAnalysis
    map: Markup | None
    half: Markup | None
    waterfall: Markup | None
    tables: Sequence[tuple[str, str, Sequence[Estimate]]]


def design_section(found: DesignAnalysis, analysis: Analysis) -> DesignSection:
    """The section of a study whose design has something to say of tricks together."""
    whole = {trick for factor in found.factors for trick in factor.split("+")}
    total = next((e for e in drawable(analysis.effects) if set(e.tricks) == whole), None)
    digits = decimals(analysis)
    return DesignSection(
        found=found,
        map=interaction_map(found, digits),
        half=half_normal(found, digits),
        waterfall=waterfall(found, total, digits),
        tables=design_tables(found),
    )


def design_tables(design: DesignAnalysis) -> list[tuple[str, str, Sequence[Estimate]]]:
    """Title, meaning and rows of each table that the design allows."""
    candidates = [
        (
            "Steps of the stack",
            "Each trick's paired difference from the arm before it, in the order of stacking.",
            design.steps,
        ),
        (
            "Main effects",
            "On against off, averaged over all settings of the other tricks.",
            design.fit.main if design.fit else (),
        ),
        (
            "Interactions",
            "Difference of differences: what two tricks do together beyond the sum of what each does alone.",
            design.interactions,
        ),
        ("Added alone", "Should I add it to my baseline?", design.one_at_a_time),
        (
            "Left out of the full stack",
            "Can I drop it from my stack? What the stack gains by having it.",
            design.leave_one_out,
        ),
        (
            "Shapley values",
            "How do I share the credit of the stack? They add up to the effect of the full stack.",
            design.shapley,
        ),
    ]
    return [(title, meaning, rows) for title, meaning, rows in candidates if rows]
