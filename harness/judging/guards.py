"""What is refused because its verdict would be wrong, each with the sentence that says what to do."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal

from harness.errors import UserError
from harness.judging.cells import Cell
from harness.readers.logged import logged as numbers_of
from harness.readers.names import FOLDS, words
from harness.readers.record import Run, Unit

ENOUGH = 3
"""Seeds from which equal scores are no chance: with fewer, a coarse score may tie."""


def unit_fits(metric: str, unit: Unit, values: Sequence[float]) -> None:
    """Refuse a unit that the values contradict: a wrong scale makes "equivalent" of any effect."""
    if not values or unit == "none":
        return
    low, high = min(values), max(values)
    where = f"all {len(values)} values of {metric} lie in [{low:g}, {high:g}]"
    if unit == "percent" and low >= 0 and high <= 1:
        raise UserError(f"unit = percent, and {where}; is it a fraction? Then add --unit fraction")
    if unit == "fraction" and (low < 0 or high > 1):
        raise UserError(f"unit = fraction, and {where}; is it in percent? Then add --unit percent")
    if unit == "percent" and (low < 0 or high > 100):
        raise UserError(f"unit = percent, and {where}; if it is no share, add --unit none and a --margin")


def one_data_set(runs: Sequence[Run], columns: Sequence[str], taken: Collection[str]) -> None:
    """Refuse a table of several data sets that is judged as one."""
    for column in columns:
        values = list(dict.fromkeys(str(run.values[column]) for run in runs if column in run.values))
        if column not in taken and len(values) > 1:
            raise UserError(
                f"column {column} has {len(values)} values: add --by {column} or --where {column}={values[0]}"
            )


def no_search(columns: Sequence[str], runs: int) -> None:
    """Refuse a table of Optuna's trials, which its sampler chose one after the other by their scores."""
    if {"number", "state"} <= set(columns) and any(c.startswith("params_") for c in columns):
        raise UserError(
            f"these {runs} runs are trials of a search: a best trial flatters itself. Train the winner and the "
            "baseline again with fresh seeds, and judge those"
        )


def once(cells: Sequence[Cell], duplicates: Literal["first", "last"] | None) -> tuple[list[Cell], list[str]]:
    """The runs, each method and seed once.

    Returns:
        The runs, and a note where some were left out.

    Raises:
        UserError: there are several of one method and seed, and nothing says which counts.
    """
    kept: dict[tuple[str, int], Cell] = {}
    dropped = 0
    for cell in cells:
        key = cell.arm, cell.seed
        if key in kept and duplicates is None:
            raise UserError(
                f"{cell.arm}, seed {cell.seed} appears twice ({kept[key].run.where} and {cell.run.where}): two runs, "
                "or a resume? Add --duplicates last or first, or --method with the column that tells them apart"
            )
        dropped += key in kept
        if key not in kept or duplicates == "last":
            kept[key] = cell
    note = f"{dropped} runs left out, since the {duplicates} one of a method and seed counts."
    return list(kept.values()), [note] if dropped else []


def shared_seeds(cells: Sequence[Cell], baseline: str) -> None:
    """Refuse runs whose methods have no seed in common with the baseline: nothing is a pair."""
    seeds = by_arm(cells)
    base = {c.seed for c in seeds[baseline]}
    others = {arm: {c.seed for c in own} for arm, own in seeds.items() if arm != baseline}
    if not any(base & own for own in others.values()):
        arm, own = next(iter(others.items()))
        raise UserError(
            f"no seed in common: {baseline} has {_span(base)}, {arm} has {_span(own)}. Effects are differences within "
            "a seed; run both with the same seeds"
        )


def unbalanced(cells: Sequence[Cell], baseline: str) -> list[str]:
    """A note where methods have other seeds than the baseline: rows that are simply absent lower n."""
    seeds = {arm: {c.seed for c in own} for arm, own in by_arm(cells).items()}
    base = seeds[baseline]
    uneven = [
        f"{baseline} {len(base)}, {arm} {len(own)}; {len(base & own)} pairs"
        for arm, own in seeds.items()
        if own != base
    ]
    return [f"Unbalanced: {'; '.join(uneven)}."] if uneven else []


def seeds_used(cells: Sequence[Cell], settings: Collection[str | None]) -> list[str]:
    """Refuse a method that logs the same numbers with every seed: its program ignores the seed, and p would be 0.

    Args:
        cells: the runs.
        settings: columns that are no results.

    Returns:
        A note for each method whose scores are equal over fewer than `ENOUGH` seeds.
    """
    notes = []
    for arm, own in by_arm(cells).items():
        scores = {c.value for c in own if not math.isnan(c.value)}
        logged = {numbers_of(c.run, settings) for c in own if not math.isnan(c.value)}
        n = sum(not math.isnan(c.value) for c in own)
        if n < 2 or len(logged) > 1:
            continue
        said = f"{arm} has {scores.pop():g} in all {n} seeds, and nothing else that was logged differs"
        if n >= ENOUGH:
            raise UserError(f"{said}: the script ignores the seed, and these are copies of one run")
        notes.append(f"{said}: does the script use the seed?")
    return notes


def folds(columns: Sequence[str]) -> None:
    """Refuse folds in the place of seeds, unless it is said how large they are."""
    found = [c for c in columns if set(words(c)) & FOLDS]
    if found:
        raise UserError(
            f"{found[0]} in the place of a seed: folds share training data, so the paired t test calls too many "
            "differences real; repeat with several seeds and judge each fold with --by, or have the test corrected: "
            f"--seed {found[0]} --folds 1/9 (test / training images; 1/9 of ten folds)"
        )


def whole_folds(cells: Sequence[Cell], baseline: str, overlap: float) -> list[str]:
    """What is said of folds; refused where one has no score, since the corrected test is of all of them."""
    if not 0 < overlap <= 1:
        raise UserError(f"--folds {overlap:g}: test / training images, above 0 and at most 1, as 1/9 for ten folds")
    seeds = by_arm(cells)
    for arm, own in seeds.items():
        there = {c.seed for c in own if math.isfinite(c.value)}
        missing = {c.seed for c in seeds[baseline]} ^ there
        if missing:
            raise UserError(f"--folds: {arm} has no score for fold {_span(missing)}, and the test is of all folds")
    return [
        "The pairs are folds of one cross-validation, whose training sets overlap: spreads, intervals and p values are "
        f"those of the corrected t test with test / training images of {overlap:g} (Nadeau & Bengio 2003). Nothing is "
        "said of other seeds."
    ]


def by_arm(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The runs of each method."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.arm, []).append(cell)
    return found


def _span(seeds: Collection[int]) -> str:
    listed = sorted(seeds)
    whole = len(listed) > 2 and listed == list(range(listed[0], listed[-1] + 1))
    return f"{listed[0]}-{listed[-1]}" if whole else ", ".join(map(str, listed[:8]))
