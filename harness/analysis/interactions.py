"""What tricks do to each other: effects of studies whose arms are sets of factors.

The input of every function is a tidy table: one row for each finished run, with the columns `seed` (the
block), one column of 0 and 1 for each factor, and `value` (the metric, larger or smaller is better). Three
questions have three answers: one at a time is "should I add it to my baseline?", leave one out is "can I
drop it from my stack?", and the Shapley value is "how do I share the credit?".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from operator import attrgetter

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from harness.analysis.inference import holm, t_interval, t_test
from harness.analysis.rows import Floats, Side, Table, metric_of, own_rows
from harness.analysis.types import Credit, DesignAnalysis, Estimate, FactorialFit
from harness.errors import UserError
from harness.metrics import COLUMNS, Metric
from harness.store.schema import Manifest

Cell = frozenset[str]
"""The factors that are on in one arm; empty for the baseline."""

Cells = Mapping[Cell, Mapping[int, float]]
"""The value of every finished run, by arm and seed."""

DIGITS = 10
"""Decimals kept of estimates, so that sums that cancel are zero."""

GREEDILY = "was chosen greedily by validation accuracy on the same seeds"
"""What the notes of a study say whose stack was ordered so; by it such a study is known."""

FLATTERED = (
    "Steps in an order that these seeds chose flatter the tricks that come first: the order is that of the validation "
    "split, which shares the luck of each seed with the test split. `harness replicate {study}` runs the arms on fresh "
    "seeds, whose steps are unbiased."
)


def aliases(design: ArrayLike, names: Sequence[str]) -> list[str]:
    """Main effects and two-way interactions that the arms cannot tell apart, as in "a:b = c:d" or "a:b = -c:d".

    Args:
        design: (arms, factors), positive where a factor is on; 0/1, -1/1 and booleans will do.
        names: of the factors.

    Returns:
        One chain for each group of effects whose columns are equal or opposite; "1" is the mean of all arms.
    """
    signs = np.where(np.asarray(design, dtype=float) > 0, 1, -1)
    terms = {"1": np.ones(len(signs), dtype=int)} | {
        _name(term, names): signs[:, term].prod(axis=1) for term in _terms(len(names))
    }
    return [" = ".join(chain) for chain in _chains(terms) if len(chain) > 1]


def factorial_effects(values: pd.DataFrame, alpha: float = 0.05) -> FactorialFit:
    """Main effects and two-way interactions of a full or fractional factorial.

    Args:
        values: the tidy table; blocks that lack one of its arms are left out.
        alpha: 1 - level of the intervals.

    Raises:
        UserError: fewer than two different arms, or no complete block.
    """
    names, cells = _factors(values), _cells(values)
    arms = list(cells)
    seeds, by_arm = _blocks(cells, arms) if arms else ([], {})
    if len(arms) < 2 or not seeds:
        raise UserError(
            f"main effects of {', '.join(names)} need at least two arms that finished in one block; "
            f"{len(arms)} arms finished"
        )
    signs = np.array([[1 if name in arm else -1 for name in names] for arm in arms])
    varied = {_name(t, names): t for t in _terms(len(names)) if len(np.unique(signs[:, t], axis=0)) == 2 ** len(t)}
    chains = _chains({name: signs[:, t].prod(axis=1) for name, t in varied.items()})
    # With levels of -1/2 and 1/2, coefficients are differences, and differences of differences.
    x = np.stack([(signs[:, varied[c[0]]] / 2).prod(axis=1) for c in chains], axis=1)
    x = x - x.mean(axis=0)
    y = np.stack([by_arm[arm] for arm in arms])
    y = y - y.mean(axis=0)
    inverse = np.linalg.pinv(x)
    # Effects differ from seed to seed. One residual variance for all runs would take each of the many arms of a
    # seed for new evidence and give intervals far too narrow; so the unit is the block, as everywhere.
    coefficients = inverse @ y
    # The projection on the rows of x keeps a coefficient exactly where the arms determine it.
    determined = np.isclose(np.diag(inverse @ x), 1)

    main, interactions = [], []
    unknown = [n for n in (_name(t, names) for t in _terms(len(names))) if n not in varied]
    for chain, good, by_block in zip(chains, determined, coefficients, strict=True):
        if not good:
            unknown += [n.removeprefix("-") for n in chain]
        elif ":" in chain[0]:
            interactions.append(_paired(" = ".join(chain), by_block, alpha))
        elif len(chain) == 1:
            main.append(_paired(chain[0], by_block, alpha))
    residual = y - x @ coefficients.mean(axis=1, keepdims=True)
    return FactorialFit(
        main=_corrected(main),
        interactions=_corrected(interactions),
        r_squared=1 - float((residual**2).sum() / (y**2).sum()) if y.any() else math.nan,
        aliases=tuple(" = ".join(c) for c in chains if len(c) > 1),
        not_estimable=tuple(unknown),
    )


def synergy(values: pd.DataFrame, a: str, b: str, alpha: float = 0.05) -> Estimate:
    """What `a` and `b` do together beyond the sum of what each does, all other factors off, block by block.

    Raises:
        UserError: no block has all four arms.
    """
    weights = {frozenset((a, b)): 1.0, frozenset((a,)): -1.0, frozenset((b,)): -1.0, frozenset[str](): 1.0}
    seeds, arms = _blocks(_cells(values), list(weights))
    if not seeds:
        raise UserError(f"no seed has finished runs of all of baseline, {a}, {b} and {a}+{b}, alone")
    return _paired(f"{a}:{b}", sum((w * arms[arm] for arm, w in weights.items()), np.zeros(len(seeds))), alpha)


def one_at_a_time_effects(values: pd.DataFrame, alpha: float = 0.05) -> tuple[Estimate, ...]:
    """Each factor alone against the baseline; factors whose arm never ran beside the baseline are left out."""
    return _each(values, lambda name, _: (frozenset((name,)), frozenset()), alpha)


def leave_one_out_effects(values: pd.DataFrame, alpha: float = 0.05) -> tuple[Estimate, ...]:
    """The full stack against the stack without each factor; factors whose two arms never ran are left out."""
    return _each(values, lambda name, full: (full, full - {name}), alpha)


def steps(values: pd.DataFrame, order: Sequence[str], alpha: float = 0.05) -> tuple[Estimate, ...]:
    """What each factor adds to those before it in `order`, paired; steps whose two arms never ran are left out."""
    before = {name: frozenset(order[:i]) for i, name in enumerate(order)}
    return _each(values, lambda name, _: (before[name] | {name}, before[name]), alpha, order)


def shapley(values: pd.DataFrame) -> pd.DataFrame:
    """The Shapley value of each factor in each block: its mean gain over all orders of stacking, exactly.

    In each block the values of all factors add up to the full stack less the baseline.

    Returns:
        Seeds by factors, for the blocks that have all 2^k arms.

    Raises:
        UserError: no block has all arms.
    """
    names = _factors(values)
    seeds, arms = _lattice(values)
    k = len(names)
    out = pd.DataFrame(0.0, index=pd.Index(seeds, name="seed"), columns=names)
    for name in names:
        for before in _subsets([n for n in names if n != name]):
            weight = math.factorial(len(before)) * math.factorial(k - len(before) - 1) / math.factorial(k)
            out[name] += weight * (arms[before | {name}] - arms[before])
    return out


def order_range(values: pd.DataFrame, alpha: float = 0.05) -> tuple[Credit, ...]:
    """The least and the most that each factor adds, on the mean over blocks, over all orders of stacking.

    Intervals are over blocks, and not corrected for the choice of the extremes.

    Raises:
        UserError: no block has all 2^k arms.
    """
    names = _factors(values)
    _, arms = _lattice(values)
    out = []
    for name in names:
        # What a factor adds depends on which factors are there already, not on their order.
        before = _subsets([n for n in names if n != name])
        added = sorted(
            (_paired("+".join(sorted(s)), arms[s | {name}] - arms[s], alpha) for s in before), key=attrgetter("mean")
        )
        out.append(Credit(name, added[0], added[-1]))
    return tuple(out)


def greedy_order(values: pd.DataFrame, higher_is_better: bool = True) -> tuple[str, ...]:
    """The order of stacking that adds at each step what gains the most on the mean over blocks.

    Chosen on the validation split, its steps on the test split are still winners of a part of their noise, since both
    splits share the luck of the seed: over the seeds of the published factorial-digits-noisy, validation and test
    effects correlate .74 to .92 in 14 of 15 arms. Only seeds that the choice has not seen give steps without that.

    Raises:
        UserError: no block has all 2^k arms.
    """
    mean, sign = _means(values), 1 if higher_is_better else -1
    left, order = _factors(values), list[str]()
    while left:
        best = max(left, key=lambda name: sign * mean[frozenset([*order, name])])
        order.append(best)
        left.remove(best)
    return tuple(order)


def tidy(runs: pd.DataFrame, manifest: Manifest, metric: Metric) -> pd.DataFrame:
    """The finished runs of a study as the table of this module, in the unit in which the metric is shown.

    Args:
        runs: rows with the columns of `harness.store.schema.RUNS`.
        manifest: the study as declared, with factors.
        metric: what is wanted of them.
    """
    table = Table(own_rows(runs, manifest))
    tables = []
    for arm in manifest.arms:
        found = Side.of(arm, table, metric).values
        on = {f: int(set(f.split("+")) <= set(arm.tricks)) for f in manifest.factors}
        tables.append(pd.DataFrame({"seed": found.index, **on, "value": found.to_numpy()}))
    return pd.concat(tables, ignore_index=True)


def analyse_design(runs: pd.DataFrame, manifest: Manifest, metric: str | None = None) -> DesignAnalysis | None:
    """What a study's arms say about its factors together, or None where its arms are no sets of factors.

    Args:
        runs: rows with the columns of `harness.store.schema.RUNS`; others are left out, as in `analyse`.
        manifest: the study as declared.
        metric: as in `harness.analysis.rows.metric_of`; by default the one declared.
    """
    if len(manifest.factors) < 2:
        return None
    what, alpha, factors = metric_of(manifest, metric), manifest.alpha, manifest.factors
    values = tidy(runs, manifest, what)
    notes = list(manifest.notes)
    if any(GREEDILY in note for note in notes):
        notes.append(FLATTERED.format(study=manifest.study))
    fit = None
    lattice, order, chosen = tuple[Estimate, ...](), tuple[Credit, ...](), factors
    try:
        if manifest.design in ("factorial", "fractional"):
            fit = factorial_effects(values, alpha)
            if fit.not_estimable:
                missing = ", ".join(fit.not_estimable)
                notes.append(f"Not estimated, because the arms that it takes did not run: {missing}.")
        if manifest.design == "factorial":
            credit = shapley(values)
            lattice = _corrected([_paired(name, credit[name].to_numpy(), alpha) for name in factors])
            order = order_range(values, alpha)
            chosen = greedy_order(tidy(runs, manifest, COLUMNS["val_accuracy"]))
            notes.append(FLATTERED.format(study=manifest.study))
    except UserError as error:
        notes.append(f"{error}.")
    return DesignAnalysis(
        metric=what.name,
        unit=what.points,
        higher_is_better=what.higher_is_better,
        factors=factors,
        fit=fit,
        interactions=fit.interactions if fit else _synergies(values, alpha),
        one_at_a_time=one_at_a_time_effects(values, alpha),
        leave_one_out=leave_one_out_effects(values, alpha),
        shapley=lattice,
        order=order,
        steps=steps(values, chosen, alpha) if manifest.design == "cumulative" or order else (),
        notes=tuple(notes),
    )


def _synergies(values: pd.DataFrame, alpha: float) -> tuple[Estimate, ...]:
    """The synergy of every pair whose four arms ran in one block."""
    found = []
    for a, b in combinations(_factors(values), 2):
        try:
            found.append(synergy(values, a, b, alpha))
        except UserError:
            continue
    return _corrected(found)


def _each(
    values: pd.DataFrame,
    arms: Callable[[str, Cell], tuple[Cell, Cell]],
    alpha: float,
    names: Sequence[str] | None = None,
) -> tuple[Estimate, ...]:
    """One paired difference for each factor, between the two arms that `arms` gives for it and the full stack."""
    cells, full = _cells(values), frozenset(_factors(values))
    found = []
    for name in names or _factors(values):
        one, other = arms(name, full)
        seeds, by_arm = _blocks(cells, [one, other])
        if seeds:
            found.append(_paired(name, by_arm[one] - by_arm[other], alpha))
    return _corrected(found)


def _factors(values: pd.DataFrame) -> list[str]:
    return [str(c) for c in values.columns if c not in ("seed", "value")]


def _cells(values: pd.DataFrame) -> Cells:
    names = _factors(values)
    out: dict[Cell, dict[int, float]] = {}
    for row, seed, value in zip(values[names].to_numpy() > 0, values["seed"], values["value"], strict=True):
        out.setdefault(frozenset(n for n, on in zip(names, row, strict=True) if on), {})[int(seed)] = float(value)
    return out


def _blocks(cells: Cells, arms: Sequence[Cell]) -> tuple[list[int], dict[Cell, Floats]]:
    """The seeds that have all of `arms`, sorted, and the values of each arm in their order."""
    seeds = sorted(set.intersection(*(set(cells.get(arm, ())) for arm in arms)))
    return seeds, {arm: np.array([cells[arm][seed] for seed in seeds]) for arm in arms} if seeds else {}


def _subsets(names: Sequence[str]) -> list[Cell]:
    return [frozenset(s) for size in range(len(names) + 1) for s in combinations(names, size)]


def _lattice(values: pd.DataFrame) -> tuple[list[int], dict[Cell, Floats]]:
    """The blocks that have all sets of factors, as in `_blocks`.

    Raises:
        UserError: there is none.
    """
    wanted, cells = _subsets(_factors(values)), _cells(values)
    seeds, arms = _blocks(cells, wanted)
    if not seeds:
        missing = ["+".join(sorted(arm)) or "baseline" for arm in wanted if arm not in cells]
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"Shapley values and orders of stacking need all {len(wanted)} sets of the factors in a block: "
            + (f"{len(missing)} did not run ({shown})" if missing else "no seed has them all")
        )
    return seeds, arms


def _means(values: pd.DataFrame) -> dict[Cell, float]:
    """The mean of every set of factors over complete blocks."""
    return {arm: float(found.mean()) for arm, found in _lattice(values)[1].items()}


def _paired(name: str, differences: Floats, alpha: float) -> Estimate:
    """The mean of one number for each block with its t interval."""
    d = np.round(differences, DIGITS)
    mean, low, high = (float(v) for v in t_interval(d, alpha))
    se = float(d.std(ddof=1)) / math.sqrt(d.size) if d.size > 1 else math.nan
    p = float(t_test(d)) if d.size > 1 else math.nan
    return Estimate(name, mean, low, high, se, p, math.nan, d.size)


def _corrected(estimates: Sequence[Estimate]) -> tuple[Estimate, ...]:
    """The estimates of one table with Holm's correction over all of them."""
    corrected = holm([e.p for e in estimates]).tolist() if estimates else []
    return tuple(replace(e, p_holm=p) for e, p in zip(estimates, corrected, strict=True))


def _terms(k: int) -> list[list[int]]:
    """Main effects, then two-way interactions, as positions of factors."""
    return [list(t) for size in (1, 2) for t in combinations(range(k), size)]


def _name(term: Sequence[int], names: Sequence[str]) -> str:
    return ":".join(names[i] for i in term)


def _chains(columns: Mapping[str, NDArray[np.int_]]) -> list[list[str]]:
    """Columns of -1 and 1 grouped by equality up to the sign; opposite ones get a minus sign."""
    groups: dict[bytes, list[str]] = {}
    first: dict[bytes, int] = {}
    for name, column in columns.items():
        key = (column * column[0]).tobytes()
        sign = int(column[0]) * first.setdefault(key, int(column[0]))
        groups.setdefault(key, []).append(name if sign > 0 else f"-{name}")
    return list(groups.values())
