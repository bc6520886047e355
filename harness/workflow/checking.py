"""A few short runs of an experiment before its study costs anything: do they repeat, and what changes them?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.commands.kinds import AnyExperiment
from harness.errors import UserError
from harness.experiment import BASELINE, Experiment, text_of
from harness.store.schema import Manifest
from harness.tricks import registry
from harness.workflow.events import Event, Finished, Started
from harness.workflow.place import parse_workers, place_of
from harness.workflow.request import CheckRequest
from harness.workflow.settings import add_parts, load, parse_settings

if TYPE_CHECKING:
    import pandas as pd

    from harness.study.places import AnyPlace

State = Literal["ok", "note", "problem"]
Round = tuple["pd.DataFrame", Manifest]
"""The rows of some runs with the labels of their arms, and the plan that they were made for."""


@dataclass(frozen=True)
class Fact:
    """One thing that a check found: what was asked, the answer in words, and whether it is a problem."""

    about: str
    state: State
    said: str


@dataclass(frozen=True)
class Checked:
    """What a check found, in the order of telling."""

    experiment: str
    facts: tuple[Fact, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is a problem."""
        return all(fact.state != "problem" for fact in self.facts)


def check(r: CheckRequest) -> Iterator[Event | Checked]:
    """Run the baseline twice with the first seed and once with each other one, and each trick once; yields `Checked`.

    Raises:
        UserError: something of the request is not possible, or the baseline fails.
    """
    for path in r.plugins:
        registry.add_plugin(path)
    loaded = load(r.experiment, parse_settings(r.settings, r.experiment))
    plugins = add_parts(loaded, r.plugins)
    full = loaded
    if not isinstance(loaded, Experiment):
        loaded = loaded.probed()
    place = place_of(r, loaded)
    workers = parse_workers(r.workers, place)
    tricks = list(loaded.study.tricks or loaded.tricks)
    with tempfile.TemporaryDirectory(prefix="harness-check-") as folder:
        first = yield from _runs(r, loaded, place, Path(folder, "first"), tricks, range(1), workers, plugins)
        again = yield from _runs(r, loaded, place, Path(folder, "again"), [], range(r.seeds), workers, plugins)
    yield Checked(loaded.experiment.name, tuple(_facts(full, first, again)))


def _runs(
    r: CheckRequest,
    experiment: AnyExperiment,
    place: AnyPlace,
    results: Path,
    tricks: Sequence[str],
    seeds: Sequence[int],
    workers: int | str | None,
    plugins: Sequence[Path],
    name: str = "check",
) -> Generator[Event, None, Round]:
    """The rows of the baseline and of each trick with these seeds, trained in a folder of their own."""
    from harness.analysis.rows import own_rows
    from harness.store.reader import read_study
    from harness.store.writer import prepare
    from harness.study.designs import Design, PlannedArm, parse_arm
    from harness.study.places import images_at
    from harness.study.plan import make_plan
    from harness.study.preflight import preflight
    from harness.study.runner import run_study
    from harness.study.workers.job import EpochEnd

    arms = (PlannedArm(()), *(PlannedArm(parse_arm(name)) for name in tricks))
    plan = make_plan(
        experiment, tricks, design=Design("one_at_a_time", arms), seeds=seeds, place=place, results=results,
        images=images_at(place, experiment), command="", toml=text_of(r.experiment), name=name,
    )  # fmt: skip
    prepare(results / name)
    ready = preflight(plan, place, results, workers, plugins)
    yield Started(name, len(plan.specs), len(plan.missing), (), ready.lines)
    for run in run_study(ready.plan, ready.place, results, workers, plugins, ready.refused):
        if not isinstance(run, EpochEnd):
            yield Finished(run.arm, run.seed, run.status, run.reason, run.seconds, run.val_accuracy)
    data = read_study(results / name, ready.plan.manifest.runs, predictions=False)
    return own_rows(data.runs, ready.plan.manifest), ready.plan.manifest


def run_round(r: CheckRequest, seeds: Sequence[int], name: str) -> Generator[Event, None, Round]:
    """The rows of an experiment's baseline with these seeds, as a study of that name in the results folder."""
    for path in r.plugins:
        registry.add_plugin(path)
    experiment = load(r.experiment, parse_settings(r.settings, r.experiment))
    plugins = add_parts(experiment, r.plugins)
    place = place_of(r, experiment)
    return (
        yield from _runs(r, experiment, place, r.results, [], seeds, parse_workers(r.workers, place), plugins, name)
    )


def _facts(experiment: AnyExperiment, first: Round, again: Round) -> Iterator[Fact]:
    """What the rows of two rounds say."""
    from harness.analysis.rows import metric_of, values_in

    (rows, manifest), (others, _) = first, again
    what = metric_of(manifest)
    base = rows[rows["label"] == BASELINE].iloc[0]
    same = others[others["seed"] == base["seed"]].iloc[0]
    for row in (base, same, *(r for _, r in others.iterrows())):
        if row["status"] != "ok":
            raise UserError(f"the baseline, seed {row['seed']}, {row['status']}: {row['reason']}")
    digests = [base["test_digest"], same["test_digest"]]
    repeatable = digests[0] == digests[1] and bool(digests[0])
    values = values_in(others, what)
    own = float(values_in(rows[rows["label"] == BASELINE], what)[0])
    repeated = float(values[list(others["seed"]).index(base["seed"])])
    yield Fact("metric", "ok", f"{what.name}, {base_value(own, what.points)} with seed {base['seed']}")
    if repeatable:
        yield Fact("repeatable", "ok", "two runs with one seed logged the same numbers")
    else:
        yield Fact(
            "repeatable", "note",
            f"no: two runs with seed {base['seed']} differ by {abs(own - repeated):.3g} {what.points}, so pairs share "
            "less, and more seeds are needed",
        )  # fmt: skip
    different = len(set(others["test_digest"]))
    if repeatable and different == 1:
        yield Fact(
            "seed used", "problem",
            f"no: {len(others)} seeds logged the same numbers, so all runs of a study would be copies of one. The "
            "program must take its seed, as an option or a variable, and draw from it",
        )  # fmt: skip
    elif repeatable:
        yield Fact("seed used", "ok", f"{different} different runs of {len(others)} seeds")
    else:
        yield Fact("seed used", "note", "not known, since runs with one seed differ, too")
    kinds = {arm.label: arm.kind for arm in manifest.arms}
    yield from _tricks(rows, base, repeatable, kinds)
    yield Fact("time", "ok", _time(experiment, rows, others))
    yield _seeds(experiment, values, what.points, manifest)


def base_value(value: float, unit: str) -> str:
    """A score with its unit."""
    return f"{value:.4g}{' %' if unit == 'points' else f' {unit}' if unit else ''}"


def _tricks(rows: pd.DataFrame, base: pd.Series[Any], repeatable: bool, kinds: Mapping[str, str]) -> Iterator[Fact]:
    """Whether each trick ran, and whether it changed anything, which controls must not."""
    for _, row in rows[rows["label"] != BASELINE].iterrows():
        if row["status"] != "ok":
            state: State = "note" if row["status"] == "skipped" else "problem"
            yield Fact(row["label"], state, f"{row['status']}: {row['reason']}")
        elif not repeatable:
            yield Fact(row["label"], "ok", "ran; whether it changes anything is not known, since runs do not repeat")
        elif row["test_digest"] == base["test_digest"]:
            control: State = "note" if kinds[row["label"]] == "control" else "problem"
            yield Fact(row["label"], control, "inactive: it logged the baseline's numbers, so it changes nothing")
        else:
            yield Fact(row["label"], "ok", "changes what is logged")


def _time(experiment: AnyExperiment, rows: pd.DataFrame, others: pd.DataFrame) -> str:
    """How long a run takes."""
    seconds = [*rows["seconds_total"], *others["seconds_total"]]
    said = f"{sum(seconds) / len(seconds):.1f} s a run (longest {max(seconds):.1f} s of {len(seconds)})"
    if isinstance(experiment, Experiment) or not experiment.command.probe:
        return said
    probe, flags = experiment.command.probe, experiment.command.flags
    numbers = {k: (v, flags[k]) for k, v in probe.items() if isinstance(v, int | float) and k in flags}
    short = ", ".join(f"{k} {v}" for k, v in probe.items())
    if len(numbers) == len(probe) == 1:
        ((few, all_),) = numbers.values()
        if isinstance(all_, int | float) and all_ > few > 0:
            return f"{said} with {short}; in proportion a whole run takes {max(seconds) * all_ / few:.0f} s at most"
    return f"{said} with {short}; whole runs take longer"


def _seeds(experiment: AnyExperiment, values: Any, points: str, manifest: Manifest) -> Fact:
    """How many seeds the margin needs, as far as a few runs of the baseline tell."""
    from scipy.stats import chi2

    from harness.analysis.power import seeds_needed

    n, margin = len(values), manifest.margin
    sd = float(values.std(ddof=1)) if n > 1 else 0.0
    if not sd:
        return Fact("seeds", "note", f"{n} runs of the baseline do not tell how much seeds vary")
    level = manifest.alpha / max(1, len(experiment.tricks))
    # Where the runs of a seed share nothing, a difference varies as two independent runs do.
    ends = [sd * math.sqrt((n - 1) / chi2.ppf(q, n - 1)) for q in (0.9, 0.1)]
    found = [seeds_needed(margin, math.sqrt(2) * s, level) for s in (sd, *ends)]
    likely, low, high = (str(k) if k else "over 1000" for k in found)
    size = f"{margin:g} {points}".strip()
    return Fact(
        "seeds", "note",
        f"at most about {likely} for a margin of {size} with 80 % power (80 % interval {low} to {high}; from {n} seeds "
        f"of the baseline with sd {sd:.3g}, as if runs of a seed shared nothing)",
    )  # fmt: skip
