"""The section that puts a published recipe's figures beside those of a study of its ingredients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.types import Analysis, DesignAnalysis
from harness.errors import UserError
from harness.report.text.numbers import interval, number, signed
from harness.store.schema import Manifest
from harness.tricks.recipes import STATUS, Ingredient, Preset, is_preset, preset

STEPS = {
    "cumulative": "what it adds to the stack before it",
    "leave_one_out": "what the full stack gains by having it",
    "one_at_a_time": "alone, over the baseline",
}
"""What a design says of an ingredient."""


@dataclass(frozen=True)
class RecipeSection:
    """A preset beside a study of it.

    here, there: what a difference is, in our study and in the source; empty where it has none. rows: a text for each
    heading. marks: the marks of figures that rows have, with their meaning.
    """

    preset: Preset
    here: str
    there: str
    rows: Sequence[Mapping[str, str]]
    marks: Sequence[tuple[str, str]]


def recipe_sections(
    manifest: Manifest, analysis: Analysis, design: DesignAnalysis | None, digits: int
) -> list[RecipeSection]:
    """A section for each preset that the study was asked for; those that this version does not have are left out."""
    found = []
    for word in map(str, manifest.asked.get("tricks", ())):
        if is_preset(word):
            try:
                recipe = preset(word)
            except UserError:
                continue
            found.append(_section(recipe, manifest, _ours(manifest, analysis, design), analysis, digits))
    return found


Ours = Mapping[str, tuple[float, float, float, int]]
"""Mean difference, both ends of its interval and n, by what was switched on."""


def _ours(manifest: Manifest, analysis: Analysis, design: DesignAnalysis | None) -> Ours:
    if manifest.design == "one_at_a_time" or design is None:
        return {e.arm: (e.mean, e.low, e.high, e.n) for e in analysis.effects}
    told = {"cumulative": design.steps, "leave_one_out": design.leave_one_out}.get(manifest.design, ())
    return {e.name: (e.mean, e.low, e.high, e.n) for e in told or design.one_at_a_time}


def _section(recipe: Preset, manifest: Manifest, ours: Ours, analysis: Analysis, digits: int) -> RecipeSection:
    rows = [
        _row(i, step, _here(i, manifest), ours.get(i.arm), digits)
        for i, step in zip(recipe.ingredients, recipe.steps, strict=True)
    ]
    everything = {trick for factor in manifest.factors for trick in factor.split("+")}
    stack = next((e for e in analysis.effects if everything and {*e.tricks} == everything), None)
    last = recipe.ingredients[-1]
    score, status = (
        (last.published, last.status) if recipe.design == "cumulative" else (recipe.together, recipe.together_status)
    )
    if stack is not None:
        gain = score - recipe.baseline if score is not None and recipe.baseline is not None else None
        whole = (stack.mean, stack.low, stack.high, stack.n)
        rows.append(_told("all together, over the baseline", "", "", score, status, gain, whole, digits))
    empty = {key for key in rows[0] if not any(row[key] for row in rows)}
    rows = [{key: text for key, text in row.items() if key not in empty} for row in rows]
    used = dict.fromkeys(row["Status"] for row in rows if row.get("Status"))
    known = any(step is not None for step in recipe.steps)
    return RecipeSection(
        preset=recipe,
        here=STEPS.get(manifest.design, STEPS["one_at_a_time"]),
        there=STEPS[recipe.design] if known else "",
        rows=rows,
        marks=[(mark, meaning) for mark, meaning in STATUS.items() if mark in used],
    )


def _here(ingredient: Ingredient, manifest: Manifest) -> str | None:
    """The values that the recipe sets, as the study has them; None where no arm has the ingredient."""
    arm = next((a for a in manifest.arms if {*ingredient.tricks} <= a.tricks.keys()), None)
    if arm is None:
        return None
    values = [f"{key} {arm.tricks[trick].get(key)}" for trick, own in ingredient.values.items() for key in own]
    return ", ".join(values)


def _row(
    i: Ingredient, step: float | None, here: str | None, ours: tuple[float, float, float, int] | None, digits: int
) -> dict[str, str]:
    told = "left out" if here is None else here
    return _told(", ".join(i.tricks), i.said, told, i.published, i.status, step, ours, digits)


def _told(
    name: str, said: str, here: str, score: float | None, status: str, gain: float | None,
    ours: tuple[float, float, float, int] | None, digits: int,
) -> dict[str, str]:  # fmt: skip
    mean, low, high, n = ours or (None, None, None, None)
    return {
        "Ingredient": name,
        "As published": said,
        "Here": here,
        "Score": number(score) if score is not None else "",
        "Status": status,
        "Published": signed(gain) if gain is not None else "",
        "Ours": signed(mean, digits) if mean is not None else "",
        "Interval": interval(low, high, digits) if mean is not None else "",
        "Seeds": "" if n is None else str(n),
    }
