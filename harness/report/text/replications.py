"""A replication as text: one list of rows for the page, the terminal and a notebook."""

from __future__ import annotations

from harness.analysis.replication import Part, Replication
from harness.report.text.numbers import interval, number, p_value, signed


def rows(found: Replication, digits: int) -> list[dict[str, str]]:
    """A row for each arm, text by heading; effects have their interval and their number of seeds."""

    def part(p: Part) -> str:
        return f"{signed(p.mean, digits)} {interval(p.low, p.high, digits)} n = {p.n}"

    return [
        {
            "Arm": arm.arm,
            "Old effect": part(arm.old),
            "Fresh effect": part(arm.new),
            "Both together": part(arm.both),
            "Fresh / old": number(arm.ratio),
            "p Holm, fresh": p_value(arm.p),
            "Outcome": arm.outcome,
        }
        for arm in found.arms
    ]
