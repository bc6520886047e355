"""From runs of a foreign program to what is judged: which column is what, and the score of each method and seed."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from harness.errors import UserError, did_you_mean
from harness.judging import guards
from harness.judging.cells import Cell
from harness.judging.options import MARGIN, Options
from harness.readers.names import BASELINES, DATASETS, METHODS, SEEDS, called, direction, is_share, split_of
from harness.readers.record import Run, Unit


@dataclass(frozen=True)
class Understood:
    """The runs that are judged, in one data set, and how they are read.

    `block` is the value of the column `by`, empty without one. `cells` are sorted by arm, the baseline first, and seed.
    `said` is what was understood, by subject, for a reader to check. `notes` are what a reader of results must know.
    """

    block: str
    cells: tuple[Cell, ...]
    baseline: str
    metric: str
    unit: Unit
    better: Literal["higher", "lower"]
    split: Literal["test", "val", "train", "unknown"]
    margin: float
    said: Mapping[str, str]
    notes: tuple[str, ...]
    columns: frozenset[str] = frozenset()
    """Those of the seed, the block and the method."""

    @property
    def arms(self) -> list[str]:
        """The methods, the baseline first."""
        return list(dict.fromkeys(cell.arm for cell in self.cells))


def understand(runs: Sequence[Run], options: Options, unit: Unit | None = None) -> list[Understood]:
    """What is judged, for each value of the column `by`.

    Args:
        runs: as a reader gives them.
        options: what the user says.
        unit: of accuracies, where the program that wrote the runs has one.

    Raises:
        UserError: the columns do not say what is what, or a guard refuses the runs (`harness.judging.guards`).
    """
    runs = _chosen([replace(run, values={**run.values, **_row(run, options.row)}) for run in runs], options.where)
    columns = list(dict.fromkeys(name for run in runs for name in run.values))
    guards.no_search(columns, len(runs))
    by = _named(options.by, columns, "--by") if options.by else None
    seed = _seed(options.seed, columns, options.folds is not None)
    metric = _metric(options.metric, columns, runs, {seed, by, options.cost})
    methods = _methods(options.method, columns, runs, {seed, metric, by, options.cost})
    cost = _named(options.cost, columns, "--cost") if options.cost else None
    better = options.better or direction(metric)
    if better is None:
        raise UserError(f"is higher or lower {metric} better? Its name does not say; add --better higher or lower")
    scale, why = _unit(metric, runs, options.unit, unit)
    margin = _margin(metric, scale, options.margin)
    parts: dict[str, list[Run]] = {}
    for run in runs:
        parts.setdefault(str(run.values.get(by, "")) if by else "", []).append(run)
    if by and "" in parts:
        raise UserError(f"--by {by}: {parts[''][0].where} has no value there; fill it in, or leave such rows out")
    if by is None:
        guards.one_data_set(runs, called(columns, DATASETS), {*methods})
    found = []
    for block, own in parts.items():
        cells = [_cell(run, methods, seed, metric, cost) for run in own]
        cells, notes = guards.once(cells, options.duplicates)
        baseline = _baseline(options.baseline, list(dict.fromkeys(c.arm for c in cells)))
        guards.shared_seeds(cells, baseline)
        notes += guards.seeds_used(cells, {seed, by, *methods})
        if options.pairs == "common":
            cells, dropped = _common(cells)
            notes += dropped
        else:
            notes += guards.unbalanced(cells, baseline)
        if options.folds is not None:
            if by:
                raise UserError("--folds and --by: data sets are compared by their seeds; judge one with --where")
            notes += guards.whole_folds(cells, baseline, options.folds)
        notes += [f"{n} of {len(own)} runs: {note}." for note, n in Counter(r.note for r in own if r.note).items()]
        if options.row.partition(":")[0] in ("max", "min", "best") and any(run.curve for run in own):
            most = max(len(run.curve) for run in own)
            notes.append(_flattered(options.row, metric, most))
        counts = {arm: sum(c.arm == arm for c in cells) for arm in dict.fromkeys(c.arm for c in cells)}
        said = {
            "method": f"{', '.join(methods)}: " + ", ".join(f"{arm} ({n} runs)" for arm, n in counts.items()),
            "baseline": baseline,
            "seed": f"{seed}: {', '.join(map(str, sorted({c.seed for c in cells})))}",
            "metric": f"{metric}, {better} is better, {_UNITS[scale]} ({why}), measured on {split_of(metric)} data"
            if split_of(metric) != "unknown"
            else f"{metric}, {better} is better, {_UNITS[scale]} ({why}); on which data is not known",
            "margin": f"{margin:g}{' points' if scale != 'none' else ''}",
            "cost": cost or "not given",
            "data sets": f"{by}: {block}" if by else "one",
        }
        cells.sort(key=lambda c: (c.arm != baseline, list(counts).index(c.arm), c.seed))
        split, named = split_of(metric), frozenset({seed, *([by] if by else []), *methods})
        found.append(
            Understood(block, tuple(cells), baseline, metric, scale, better, split, margin, said, tuple(notes), named)
        )
    return found


_UNITS: Mapping[Unit, str] = {"percent": "in percent", "fraction": "a fraction", "none": "without unit"}


def _row(run: Run, row: str) -> Mapping[str, Any]:
    """The row of a run's curve that counts, whose scores the run then has."""
    if not run.curve:
        return {}
    how, _, column = row.partition(":")
    if how == "first":
        return run.curve[0]
    if how == "last":
        # Logs are often sparse: the last value of each column.
        return {name: value for point in run.curve for name, value in point.items()}
    at = [point for point in run.curve if column in point]
    if not at:
        known = dict.fromkeys(name for point in run.curve for name in point)
        raise UserError(f"--row {row}: {run.where} has no column '{column}'{did_you_mean(column, known)}")
    way = {"max": "higher", "min": "lower"}.get(how) or direction(column)
    if way is None:
        raise UserError(f"--row {row}: is higher or lower {column} better? Say max:{column} or min:{column}")
    return (max if way == "higher" else min)(at, key=lambda point: point[column])


def _flattered(row: str, metric: str, most: int) -> str:
    chosen = row.partition(":")[2]
    same = split_of(chosen) == split_of(metric)
    where = "on the data that judge it" if same else f"by {chosen}"
    return f"Each score is that of the best of up to {most} epochs ({row}), chosen {where}."


def _chosen(runs: Sequence[Run], where: Sequence[str]) -> list[Run]:
    """The runs that meet all conditions."""
    found = list(runs)
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: it must read COLUMN=VALUE, for example dataset=cifar10")
        _named(name, list(dict.fromkeys(n for run in found for n in run.values)), "--where")
        kept = [run for run in found if str(run.values.get(name, "")) == value]
        if not kept:
            values = dict.fromkeys(str(run.values[name]) for run in found if name in run.values)
            raise UserError(f"--where {condition}: no run has it. {name} is one of {', '.join(list(values)[:12])}")
        found = kept
    if not found:
        raise UserError("there is no run to judge: the table has no row below its header")
    return found


def _named(name: str, columns: Sequence[str], option: str) -> str:
    if name not in columns:
        raise UserError(f"{option} {name}: no such column{did_you_mean(name, columns)} Known: {', '.join(columns)}")
    return name


def _seed(name: str | None, columns: Sequence[str], folds: bool) -> str:
    if name is not None:
        if not folds:
            guards.folds([name])
        return _named(name, columns, "--seed")
    found = called(columns, SEEDS)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"which of {', '.join(found)} is the seed? Add --seed COLUMN")
    guards.folds(columns)
    raise UserError(f"no column is called seed; say which one is with --seed. Columns: {', '.join(columns)}")


def _metric(name: str | None, columns: Sequence[str], runs: Sequence[Run], taken: set[str | None]) -> str:
    if name is not None:
        return _named(name, columns, "--metric")
    numeric = [c for c in columns if c not in taken and all(_number(r.values.get(c)) is not None for r in runs)]
    shares = [c for c in numeric if is_share(c)]
    if len(shares) == 1:
        return shares[0]
    listed = ", ".join(shares or numeric or columns)
    raise UserError(f"which score is judged? Add --metric, one of {listed}")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _methods(name: str | None, columns: Sequence[str], runs: Sequence[Run], taken: set[str | None]) -> list[str]:
    """The columns that tell methods apart."""
    if name is not None:
        return [_named(part.strip(), columns, "--method") for part in name.split(",")]
    found = [c for c in called(columns, METHODS) if c not in taken]
    if len(found) == 1:
        return found
    texts = {c: {str(r.values[c]) for r in runs if c in r.values} for c in columns if c not in taken}
    varying = [c for c, v in texts.items() if 1 < len(v) < len(runs) and not direction(c)]
    raise UserError(
        f"which column says the method? Add --method, one of {', '.join(found or varying or columns)}; "
        "several are joined by commas"
    )


def _label(run: Run, methods: Sequence[str]) -> str:
    """What a method is called: its name where it is text, else COLUMN=VALUE."""
    named = []
    for column in methods:
        value = run.values.get(column)
        if value is None:
            raise UserError(f"{run.where} has no {column}: every run needs its method")
        named.append(value if isinstance(value, str) and len(methods) == 1 else f"{column}={value}")
    return ",".join(named)


def _cell(run: Run, methods: Sequence[str], seed: str, metric: str, cost: str | None) -> Cell:
    label, given = _label(run, methods), run.values.get(seed)
    number = _number(given)
    if number is None or not number.is_integer():
        raise UserError(f"{run.where}: seed '{given}' is no whole number; number the repetitions")
    value = run.values.get(metric)
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+ ?%", value):
        raise UserError(f"{run.where}: {metric} is '{value}'; write it as a number and say --unit percent")
    if value is not None and _number(value) is None:
        raise UserError(f"{run.where}: {metric} is '{value}', which is no number; leave it empty if the run failed")
    score, seconds = _number(value), _number(run.values.get(cost)) if cost else None
    return Cell(label, int(number), run, math.nan if score is None else score, math.nan if seconds is None else seconds)


def _unit(metric: str, runs: Sequence[Run], asked: Unit | None, of_reader: Unit | None) -> tuple[Unit, str]:
    """The unit of a score, and why it is thought to be that one."""
    values = [v for run in runs if (v := _number(run.values.get(metric))) is not None and math.isfinite(v)]
    share = is_share(metric)
    if asked is not None:
        guards.unit_fits(metric, asked, values)
        return asked, "as you say"
    if of_reader is not None and share:
        guards.unit_fits(metric, of_reader, values)
        return of_reader, "as this program writes it"
    if share and values:
        if all(0 <= v <= 1 for v in values):
            return "fraction", f"its values lie in [{min(values):g}, {max(values):g}]"
        if all(0 <= v <= 100 for v in values) and sum(v > 1 for v in values) > len(values) / 2:
            return "percent", f"its values lie in [{min(values):g}, {max(values):g}]"
        raise UserError(f"values of {metric} lie in [{min(values):g}, {max(values):g}]: add --unit percent or none")
    return "none", "its name does not say that it is a share"


def _margin(metric: str, unit: Unit, asked: float | None) -> float:
    if asked is not None:
        if not 0 < asked < math.inf:
            raise UserError(f"--margin {asked:g}: the smallest difference that matters is a number above 0")
        return asked
    if unit == "none":
        raise UserError(f"what is the smallest difference in {metric} that matters? Add --margin, in its own unit")
    return MARGIN


def _baseline(name: str | None, arms: Sequence[str]) -> str:
    if name is not None:
        found = [arm for arm in arms if name in (arm, arm.partition("=")[2])]
        if len(found) != 1:
            raise UserError(f"--baseline {name}: no such method{did_you_mean(name, arms)} Known: {', '.join(arms)}")
    else:
        found = [arm for arm in arms if arm.lower() in BASELINES]
    if len(arms) < 2:
        raise UserError(f"only one method, {', '.join(arms)}: there is nothing to compare it with")
    if len(found) != 1:
        raise UserError(f"which method is the baseline? Add --baseline, one of {', '.join(arms)}")
    return found[0]


def _common(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The runs of the seeds that all methods have."""
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.arm, set()).add(cell.seed)
    common = set.intersection(*seeds.values())
    if not common:
        raise UserError("--pairs common: no seed is there in all methods; use --pairs all")
    left_out = sorted(set.union(*seeds.values()) - common)
    notes = [f"Judged on the {len(common)} seeds that all methods have; left out: {', '.join(map(str, left_out))}."]
    return [c for c in cells if c.seed in common], notes if left_out else []
