"""The rate probe: whether an arm that collapsed does so at a lower learning rate, too.

That a trick loses sixty points may be a statement about the learning rate that was tuned without it. So arms that ended
at chance, or lost more than `LOSS` points of test accuracy, are trained again at `FRACTIONS` of their rate, on a few
seeds. Three seeds give no verdict: all words carry the numbers and n.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.analysis.detectors import guessing
from harness.analysis.rows import own_rows, probe_rows
from harness.analysis.types import Analysis, Verdict
from harness.store.schema import ArmPlan, Manifest, Probe

LOSS = 20.0
"""Points of test accuracy below the baseline, from which a loss may be the rate's."""

FRACTIONS = {1 / 3: "a third of it", 1 / 10: "a tenth of it"}
"""The factors on the learning rate that are probed, in words, from the largest."""

SEEDS = 3
"""A probe has at most so many of the study's seeds, the first ones."""


@dataclass(frozen=True)
class Probed:
    """What a probe found: an arm at `factor` times its learning rate, beside arm and baseline at the full rate.

    All three are means over the same `n` seeds, of the `n_planned` that were to be trained, in percent of test
    accuracy; `low` and `high` are the least and the greatest of the probe. One of the runs that diverged, of which the
    probe has `n_diverged`, counts as a guess among the classes. `collapsed` says whether the probe, too, ended at
    chance or lost more than `LOSS` points. Without seeds the numbers are NaN, and it is None.
    """

    arm: str
    factor: float
    n: int
    n_planned: int
    n_diverged: int
    mean: float
    low: float
    high: float
    full: float
    baseline: float
    collapsed: bool | None

    @property
    def fraction(self) -> str:
        """The rate in words: "a third of it"."""
        return FRACTIONS.get(self.factor, f"{self.factor:.3g} of it")

    @property
    def words(self) -> str:
        """What was found: "not at a third of it (test accuracy 88.1 %, 3 seeds, baseline 90.2 %)"."""
        if self.collapsed is None:
            return f"{self.fraction} was not measured"
        lost = f" of which {self.n_diverged} diverged" if self.n_diverged else ""
        seeds = f"{self.n} seed{'s' * (self.n > 1)}{lost}"
        return (
            f"{'also' if self.collapsed else 'not'} at {self.fraction} "
            f"(test accuracy {self.mean:.1f} %, {seeds}, baseline {self.baseline:.1f} %)"
        )


def collapsed_arms(runs: pd.DataFrame, manifest: Manifest, classes: int | None) -> tuple[str, ...]:
    """The arms that ended at chance or lost more than `LOSS` points of test accuracy, by label.

    At chance is an arm that has no more validation images right, over all its seeds, than guessing may, where the
    baseline has more.

    Args:
        runs: rows with the columns of `harness.store.schema.RUNS`; those of other studies are left out.
        manifest: the study as declared.
        classes: how many there are; None where it is not known, and then nothing is at chance.
    """
    base = manifest.baseline
    if base is None:
        return ()
    scores = _Scores(own_rows(runs, manifest), classes)
    others = (arm for arm in manifest.arms if arm is not base)
    return tuple(a.label for a in others if scores.collapsed(a.run_ids, base.run_ids, scores.seeds(a, base)))


def probes_of(runs: pd.DataFrame, manifest: Manifest, classes: int | None) -> tuple[Probed, ...]:
    """What a study's probes found, in the order of its declaration; arguments as in `collapsed_arms`."""
    base, arms = manifest.baseline, {arm.label: arm for arm in manifest.arms}
    known = [probe for probe in manifest.probes if probe.arm in arms]
    if base is None or not known:
        return ()
    scores = _Scores(pd.concat([own_rows(runs, manifest), probe_rows(runs, manifest)]), classes)
    found = []
    for probe in known:
        full = arms[probe.arm].run_ids
        seeds = scores.seeds(probe, base)
        values = scores.test(probe.run_ids, seeds)
        found.append(
            Probed(
                arm=probe.arm,
                factor=probe.factor,
                n=len(seeds),
                n_planned=len(probe.run_ids),
                n_diverged=sum(probe.run_ids[s] in scores.diverged for s in seeds),
                mean=_mean(values),
                low=min(values, default=np.nan),
                high=max(values, default=np.nan),
                full=_mean(scores.test(full, [s for s in seeds if full.get(s) in scores.by_run])),
                baseline=_mean(scores.test(base.run_ids, seeds)),
                collapsed=scores.collapsed(probe.run_ids, base.run_ids, seeds) if seeds else None,
            )
        )
    return tuple(found)


def at_this_rate(analysis: Analysis, collapsed: Sequence[str], probes: Sequence[Probed]) -> Analysis:
    """The analysis of an accuracy whose sentences on arms that collapsed say at which rates they do; others as it is.

    Rates are told from the largest, down to the first at which the arm does not collapse.
    """
    if analysis.unit != "points":
        return analysis
    effects = []
    for effect in analysis.effects:
        own = [probe for probe in probes if probe.arm == effect.arm]
        if own or effect.arm in collapsed:
            effect = replace(effect, verdict=_said(effect.verdict, own))
        effects.append(effect)
    return replace(analysis, effects=tuple(effects))


def _said(verdict: Verdict, probes: Sequence[Probed]) -> Verdict:
    told = []
    for probe in sorted(probes, key=lambda p: -p.factor):
        told.append(probe.words)
        if probe.collapsed is False:
            break
    what = "It hurts" if verdict.kind.startswith("hurts") else "It collapses"
    found = ", ".join(told) or "lower ones were not tried"
    return replace(verdict, sentence=f"{verdict.sentence} {what} at this rate; {found}.")


class _Scores:
    """Accuracies of runs as fractions, by run id: (test, validation). One that diverged counts as a guess."""

    def __init__(self, rows: pd.DataFrame, classes: int | None) -> None:
        guess = 1 / classes if classes else 0.0
        finished = rows[rows["ok"] & rows["test_accuracy"].notna() & rows["val_accuracy"].notna()]
        self.classes = classes
        self.diverged = set(rows.loc[rows["status"] == "diverged", "run_id"])
        self.by_run = dict.fromkeys(self.diverged, (guess, guess)) | {
            run_id: (float(test), float(val))
            for run_id, test, val in zip(
                *(finished[name] for name in ("run_id", "test_accuracy", "val_accuracy")), strict=True
            )
        }
        self.val_size = _val_size(rows)

    def seeds(self, arm: ArmPlan | Probe, base: ArmPlan) -> list[int]:
        """The seeds on which both have a value."""
        return [s for s, i in arm.run_ids.items() if i in self.by_run and base.run_ids.get(s) in self.by_run]

    def test(self, run_ids: Mapping[int, str], seeds: Sequence[int]) -> list[float]:
        """Test accuracies on these seeds, in percent."""
        return [100 * self.by_run[run_ids[s]][0] for s in seeds]

    def collapsed(self, run_ids: Mapping[int, str], base: Mapping[int, str], seeds: Sequence[int]) -> bool:
        """Whether runs lost more than `LOSS` points against those of the baseline, or are at chance when it is not."""
        if not seeds:
            return False
        lost = _mean(self.test(base, seeds)) - _mean(self.test(run_ids, seeds))
        return round(lost, 10) > LOSS or (self._at_chance(run_ids, seeds) and not self._at_chance(base, seeds))

    def _at_chance(self, run_ids: Mapping[int, str], seeds: Sequence[int]) -> bool:
        if self.classes is None or not self.val_size:
            return False
        right = _mean([self.by_run[run_ids[s]][1] for s in seeds])
        return guessing(right, self.val_size * len(seeds), self.classes)


def _val_size(rows: pd.DataFrame) -> int:
    """Validation images of a run; 0 where the rows, which a foreign program may have made, do not say."""
    try:
        return int(json.loads(rows["spec"].iloc[0])["data"]["val_size"])
    except (IndexError, KeyError, TypeError, ValueError):
        return 0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else np.nan
