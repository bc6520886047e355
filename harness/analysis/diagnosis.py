"""What the stored curves of a run, and of all runs of an arm, say is wrong, and the probe that settles it.

Thresholds were set on real runs: none fires on twenty baseline runs of the bundled `digits` experiment, each
on the fault that it is named after. Slopes count when a one-sided t test at 2.5 % says so *and* they are large
on a scale that does not depend on the number of classes or epochs; on few points, either alone is often wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrik, stdtr

from harness.analysis.power import N_MAX, seeds_needed
from harness.analysis.verdicts import MIN_SEEDS, outlying
from harness.store.reader import StudyData
from harness.store.schema import Manifest

Severity = Literal["info", "warning", "problem"]
Code = Literal[
    "at_chance",
    "diverged",
    "not_converged",
    "overconfident",
    "overfitting",
    "saturated",
    "train_above_validation",
    "unstable_seeds",
    "validation_too_small",
]

LEVEL = 0.025
"""One-sided level of every slope test."""
TAIL = 0.8
"""The end of a run is what comes after this share of its epochs: four of the twenty validation points."""
TAIL_POINTS = 4
"""The fewest points that a slope is fitted to: with three, a t test has one degree of freedom."""
CHANCE_LEVEL = 0.98
"""A loss that stayed above this share of where it began, or of ln(classes), has learnt nothing."""
CHANCE_TAIL = 0.01
"""Chance of guessing more images right than what still counts as guessing."""
PACE = 0.2
"""The pace at the end over the average pace of the run, from which more epochs would pay. Healthy `digits` runs end
below 0.04 with steps and below 0.09 with a cosine; runs cut to a tenth of their epochs end above 0.3."""
EARLY = 0.7
"""A validation minimum after this share of the epochs is no overfitting: plateaus have theirs anywhere at the end."""
RISE = 0.025
"""The rise of the validation nll after its minimum, over ln(classes), from which it counts. Healthy `digits` runs rise
by up to 0.013 by chance alone; runs that memorise wrong labels by 0.03 to 0.18."""
RISE_IMAGES = 300
"""Validation images for which `RISE` was set. Below, it grows as the noise of a mean does: with the root of n."""
SEVERE = 2.0
"""Overfitting is severe where the validation nll reaches this multiple of its minimum."""
SATURATION = 4.0
"""The error of the baseline, in margins, below which it is saturated: to find the margin, a trick would have to
remove more than a quarter of all errors left, which few tricks do."""

Floats = NDArray[np.float64]
Curves = dict[tuple[str, str], tuple[Floats, Floats]]
"""One run's curves: (split, metric) -> epochs and values, both of shape (points,), by increasing epoch."""


@dataclass(frozen=True)
class Context:
    """What the detectors need besides rows.

    `margin` is in points of `metric`, an accuracy of the test split. `classes` is None where it is not
    known, and then nothing is called at chance.
    """

    margin: float
    classes: int | None
    metric: str = "test_accuracy"


@dataclass(frozen=True)
class Finding:
    """One thing that a curve shows.

    `info` is worth knowing and needs nothing done, `warning` may change how the effects are read, `problem`
    means that the runs do not answer the question. `evidence` has the numbers and their n, `advice` the
    probe that settles it.
    """

    code: Code
    severity: Severity
    title: str
    evidence: str
    advice: str


def context_of(data: StudyData, manifest: Manifest) -> Context:
    """The context of a study; the number of classes is that of its predictions, or of what they said."""
    return Context(manifest.margin, data.classes, manifest.metric)


def diagnose(row: Mapping[str, Any], curves: pd.DataFrame, context: Context) -> list[Finding]:
    """Findings of one run, the gravest first.

    Args:
        row: of the runs table, with the columns of `harness.store.schema.RUNS`.
        curves: the curve points of this run.
        context: of the study.

    Returns:
        Nothing for skipped and failed runs. For a run that diverged, only that.
    """
    return _diagnose(_Run(row, curves_by_run(curves).get((row["run_id"], row["fingerprint"]), {}), context))


def diagnose_arm(runs: pd.DataFrame, curves: pd.DataFrame, arm: str, context: Context) -> list[Finding]:
    """`diagnose_arms` for a single one."""
    return diagnose_arms(runs, curves, [arm], context)[arm]


def diagnose_arms(
    runs: pd.DataFrame, curves: pd.DataFrame, arms: Sequence[str], context: Context
) -> dict[str, list[Finding]]:
    """For each arm, the findings of all its runs, one for each code, the gravest first.

    What fewer than half of the runs show becomes an info, except divergence, which costs the effect a pair.

    Args:
        runs: rows of the study, one for each run and fingerprint; those of other arms are left out.
        curves: curve points of these runs.
        arms: labels of the arms.
        context: of the study.
    """
    points = curves_by_run(curves)
    rows = runs[runs["arm"].isin(list(arms)) & runs["status"].isin(["ok", "diverged"])].sort_values("seed")
    by_arm: dict[str, list[_Run]] = {arm: [] for arm in arms}
    for row in rows.to_dict("records"):
        own = points.get((row["run_id"], row["fingerprint"]), {})
        by_arm[row["arm"]].append(_Run({str(k): v for k, v in row.items()}, own, context))
    return {arm: _diagnose_together(arm, found, context) for arm, found in by_arm.items()}


def curves_by_run(curves: pd.DataFrame) -> dict[tuple[str, str], Curves]:
    """The curves of each run, by run id and fingerprint.

    Args:
        curves: points with the columns of `harness.store.schema.CURVES`, in any order.
    """
    # One sort for all: grouping a frame costs a fraction of a millisecond a group, and a study has thousands.
    keys = [pd.factorize(curves[name]) for name in ("run_id", "fingerprint", "split", "metric")]
    order = np.lexsort((curves["epoch"].to_numpy(), *(codes for codes, _ in reversed(keys))))
    new = np.any([np.diff(codes[order]) != 0 for codes, _ in keys], axis=0)
    starts = np.concatenate([np.zeros(min(1, order.size), dtype=int), np.flatnonzero(new) + 1])
    names = zip(*(np.asarray(known, dtype=object)[codes[order[starts]]] for codes, known in keys), strict=True)
    epochs, values = (np.split(curves[name].to_numpy(dtype=float)[order], starts[1:]) for name in ("epoch", "value"))
    found: dict[tuple[str, str], Curves] = {}
    for (run_id, fingerprint, split, metric), x, y in zip(names, epochs, values, strict=False):
        found.setdefault((run_id, fingerprint), {})[split, metric] = x, y
    return found


@dataclass(frozen=True)
class _Run:
    """One run's row with its curves."""

    row: Mapping[str, Any]
    curves: Curves
    context: Context

    def curve(self, split: str, metric: str) -> tuple[Floats, Floats]:
        """Epochs and values; empty where nothing was stored."""
        return self.curves.get((split, metric), (np.empty(0), np.empty(0)))

    def number(self, name: str) -> float:
        """A column of the row; NaN where nothing was stored."""
        value = self.row.get(name)
        return math.nan if value is None else float(value)

    @cached_property
    def val_size(self) -> int:
        return int(json.loads(self.row["spec"])["data"]["val_size"])

    @property
    def chance(self) -> float:
        """The loss of a guess; NaN where the number of classes is not known."""
        return math.log(self.context.classes) if self.context.classes else math.nan

    @property
    def rate(self) -> str:
        _, lr = self.curve("train", "lr")
        return f"{lr.max():.3g}" if lr.size else "unknown"


def _diagnose(run: _Run) -> list[Finding]:
    """The findings of one run, the gravest first."""
    if run.row["status"] not in ("ok", "diverged"):
        return []
    lost = _diverged(run)
    if lost:
        return [lost]
    chance = _at_chance(run)
    # What never left chance has neither converged nor overfitted, whatever the noise of its curves says.
    learnt = [] if chance else [_not_converged(run), _overfitting(run), _train_above_validation(run)]
    return _ordered([f for f in (chance, *learnt, _validation_too_small(run)) if f])


def _diagnose_together(arm: str, runs: Sequence[_Run], context: Context) -> list[Finding]:
    """The findings of one arm's runs, which are sorted by seed."""
    single: dict[Code, list[tuple[int, Finding]]] = {}
    for run in runs:
        for finding in _diagnose(run):
            single.setdefault(finding.code, []).append((int(run.row["seed"]), finding))
    found = [_merged(seen, len(runs)) for seen in single.values()]
    scores = np.array([run.number(context.metric) for run in runs if run.row["status"] == "ok"], dtype=float)
    values = 100 * scores[~np.isnan(scores)]
    if arm == "baseline":
        found += filter(None, [_saturated(values, context)])
    lost = {how: len(single.get(code, [])) for code, how in _LOST.items()}
    found += filter(None, [_unstable_seeds(values, len(runs), lost, context)])
    return _ordered(found)


def slope_test(x: Floats, y: Floats, sign: Literal[1, -1]) -> tuple[float, float]:
    """Least-squares slope of `y` against `x`, both (points,), and the one-sided p that it has this sign by chance.

    The t test of the correlation, with the numbers of `scipy.stats.linregress` in a tenth of its time. Where `x` does
    not vary both are NaN; from two points, or where `y` does not vary, p is.
    """
    dx, dy = x - x.mean(), y - y.mean()
    sx, sy, sxy = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    if sx == 0:
        return math.nan, math.nan
    if sy == 0 or x.size == 2:
        return sxy / sx, math.nan
    r = min(max(sxy / math.sqrt(sx * sy), -1.0), 1.0)
    # The tiny number keeps a perfect line from dividing by zero.
    t = r * math.sqrt((x.size - 2) / ((1 - r + 1e-20) * (1 + r + 1e-20)))
    return sxy / sx, float(stdtr(x.size - 2, -sign * t))


def guessed(n: int, classes: int, level: float = CHANCE_TAIL) -> int:
    """The most right answers of `n` images that guessing among `classes` exceeds with a chance of at most `level`."""
    most = math.ceil(bdtrik(1 - level, n, 1 / classes))  # where the continuous extension reaches the level
    fewer = max(most - 1, 0)
    return fewer if bdtr(fewer, n, 1 / classes) >= 1 - level else most


def _tail(epochs: Floats) -> slice:
    """The points of the end of the run, and at least `TAIL_POINTS` of them where there are that many."""
    return slice(-max(TAIL_POINTS, int((epochs > TAIL * epochs[-1]).sum())), None)


def _diverged(run: _Run) -> Finding | None:
    _, loss = run.curve("train", "loss")
    names = [f"{split} {metric}" for (split, metric), (_, v) in run.curves.items() if not np.isfinite(v).all()]
    names += [name for name in ("val_nll", "test_nll", "train_nll") if math.isinf(run.number(name))]
    if run.row["status"] != "diverged" and not names:
        return None
    reason = run.row["reason"] or f"not finite: {', '.join(names)}"
    finite, before = loss[np.isfinite(loss)], ""
    if finite.size:  # none where the first epoch already diverged
        before = f"; mean loss of the {finite.size} finite epochs from {finite[0]:.3g} to {finite[-1]:.3g}"
    return Finding(
        "diverged",
        "problem",
        "The loss is not finite",
        f"{reason}{before}; peak learning rate {run.rate}.",
        "Repeat with a tenth of recipe.lr. If that trains, the rate was too large: lower it or add warm-up or gradient "
        "clipping. If not, look at the loss of the first batch and at the precision.",
    )


def _at_chance(run: _Run) -> Finding | None:
    """Whether nothing was learnt: the loss as minimised never fell, and validation is guessing.

    The loss is compared with where it began as well as with ln(classes), because criteria other than
    cross-entropy have another level of chance.
    """
    epochs, loss = run.curve("train", "loss")
    accuracy, n, classes = run.number("val_accuracy"), run.val_size, run.context.classes
    if not loss.size or classes is None or math.isnan(accuracy):
        return None
    level = float(loss[_tail(epochs)].mean())
    if level < CHANCE_LEVEL * min(run.chance, loss[0]):
        return None
    most = guessed(n, classes)
    if round(accuracy * n) > most:
        return None
    return Finding(
        "at_chance",
        "problem",
        "Nothing was learnt",
        f"The training loss ends at {level:.3g} (first epoch {loss[0]:.3g}, highest {loss.max():.3g}, "
        f"ln {classes} = {run.chance:.3g}); {accuracy:.1%} of {n} validation images are right, and guessing gets up to "
        f"{most / n:.1%}; peak learning rate {run.rate}.",
        "Repeat with recipe.lr ten times larger, or ten times smaller if the loss rose. If both stay at chance, train "
        "on a few dozen images without augmentation: a network that cannot memorise those has a wrong loss, wrong "
        "labels or weights that get no gradient.",
    )


def _not_converged(run: _Run) -> Finding | None:
    """Whether the end of the run still brings what its middle did.

    The pace is the fitted fall of a loss per epoch, over its average fall per epoch since chance: 1 for a
    straight line, 0 for a plateau. The second half of the end must keep it up too, so that a drop of the
    learning rate inside the end, or a schedule that has come to rest, raises no alarm.
    """
    for split, metric, name in (("val", "nll", "validation nll"), ("train", "loss", "training loss")):
        epochs, values = run.curve(split, metric)
        if values.size < TAIL_POINTS:
            continue
        learnt = np.nanmax([run.chance, values[0]]) - values[-1]
        if learnt <= 0:
            continue
        x, y = epochs[_tail(epochs)], values[_tail(epochs)]
        slope, p = slope_test(x, y, -1)
        last, _ = slope_test(x[x.size // 2 :], y[x.size // 2 :], -1)
        average = learnt / epochs[-1]
        if p < LEVEL and min(-slope, -last) >= PACE * average:
            gain = -last * (1 - TAIL) * epochs[-1]
            return Finding(
                "not_converged",
                "warning",
                "Training stopped while it was still improving",
                f"The {name} fell by {-slope:.2g} per epoch over the last {x.size} points, "
                f"{-slope / average:.1f} times its average pace (p = {p:.2g}), to {values[-1]:.3g} after "
                f"{epochs[-1]:.0f} epochs; at the last pace, a fifth more epochs would bring {gain:.2g}.",
                "Repeat baseline and arm with twice recipe.epochs: effects of short trainings often shrink or change "
                "sign in longer ones.",
            )
    return None


def _overfitting(run: _Run) -> Finding | None:
    """Whether the validation nll turned upwards early while the training loss went on falling.

    Where the accuracy still rose by more than its standard error, the network is overconfident only.
    """
    epochs, nll = run.curve("val", "nll")
    times, loss = run.curve("train", "loss")
    _, accuracy = run.curve("val", "accuracy")
    if nll.size < 2 * TAIL_POINTS or not loss.size or accuracy.size != nll.size:
        return None
    k, tail = int(nll.argmin()), _tail(epochs)
    end = float(nll[tail].mean())
    scale = run.chance if math.isfinite(run.chance) else float(nll[0])
    least = RISE * scale * math.sqrt(max(1.0, RISE_IMAGES / run.val_size))
    if epochs[k] > EARLY * epochs[-1] or end - nll[k] < least:
        return None
    at_minimum = loss[(times > (epochs[k - 1] if k else 0)) & (times <= epochs[k])].mean()
    at_end = loss[_tail(times)].mean()
    if at_end > at_minimum or slope_test(epochs[k:], nll[k:], 1)[1] >= LEVEL:
        return None
    gained, p = float(accuracy[tail].mean() - accuracy[k]), float(accuracy[k])
    error = math.sqrt(p * (1 - p) / run.val_size)
    evidence = (
        f"The validation nll rose from {nll[k]:.3g} in epoch {epochs[k]:.0f} of {epochs[-1]:.0f} to {end:.3g} at the "
        f"end ({end / nll[k]:.2f} times), while the training loss fell from {at_minimum:.2g} to {at_end:.2g}; the "
        f"validation accuracy changed by {100 * gained:+.1f} points (standard error {100 * error:.1f}, "
        f"n = {run.val_size})."
    )
    if gained > error:
        return Finding(
            "overconfident",
            "info",
            "The network grows overconfident, and its accuracy still improves",
            evidence,
            "Read accuracies as they are, and nll and calibration with care: label smoothing, or a temperature fitted "
            "on the validation split, shows what is left of the rise.",
        )
    severe = end >= SEVERE * nll[k]
    return Finding(
        "overfitting",
        "problem" if severe else "warning",
        "Severe overfitting" if severe else "Overfitting",
        evidence,
        "Repeat with more weight decay or augmentation, and with half of recipe.epochs: if those beat this run, a "
        "trick that regularises will look better here than beside a tuned baseline.",
    )


def _train_above_validation(run: _Run) -> Finding | None:
    """Whether the training loss lies above the validation nll for no other reason than what it measures."""
    epochs, loss = run.curve("train", "loss")
    val, clean = run.number("val_nll"), run.number("train_nll")
    if not loss.size:
        return None
    level = float(loss[_tail(epochs)].mean())
    if not clean < val < level:
        return None
    return Finding(
        "train_above_validation",
        "info",
        "The training loss lies above the validation loss, as it should here",
        f"The loss as minimised ends at {level:.3g}, the validation nll at {val:.3g} (n = {run.val_size}); on clean "
        f"training images with their own labels the nll is {clean:.3g}. Soft targets (mixup, label smoothing), "
        "augmentation and dropout raise the first and not the others.",
        "Compare train_nll with val_nll for the gap; the two loss curves do not have the same zero.",
    )


def _validation_too_small(run: _Run) -> Finding | None:
    """Whether the margin is lost in the sampling noise of one run's validation accuracy.

    This is about reading single curves and choosing by them. Paired effects on the test split share their
    images, average over seeds, and state their own interval. It is a warning where one image is worth
    more than the margin.
    """
    p, n, margin = run.number(f"val_{run.context.metric.removeprefix('test_')}"), run.val_size, run.context.margin
    if math.isnan(p):
        return None
    p = (p * n + 1) / (n + 2)  # Laplace's estimate, so that all right or all wrong is not without noise
    error = 100 * math.sqrt(p * (1 - p) / n)
    if error <= margin:
        return None
    needed = math.ceil(p * (1 - p) * (100 / margin) ** 2)
    coarse = 100 / n > margin
    return Finding(
        "validation_too_small",
        "warning" if coarse else "info",
        "One validation image is worth more than the margin" if coarse else "Single validation curves are noisy",
        f"The validation accuracy of one run has a standard error of {error:.1f} points (n = {n}); the margin is "
        f"{margin:g}, which takes n = {needed:,}.",
        f"Do not choose between single runs by these curves. Raise data.val_size to {needed:,}, or average over seeds.",
    )


def _saturated(values: Floats, context: Context) -> Finding | None:
    """Whether the baseline leaves too few errors for an effect of the margin."""
    if not values.size or 100 - values.mean() >= SATURATION * context.margin:
        return None
    error = 100 - float(values.mean())
    share = f"{min(context.margin / error, 1):.0%}" if error else "all"
    return Finding(
        "saturated",
        "warning",
        "The baseline is saturated",
        f"Its {context.metric} is {values.mean():.2f} % (n = {values.size} runs): an improvement of the margin, "
        f"{context.margin:g} points, would have to remove {share} of the {error:.2f} points of error left.",
        "Ask the question where there is room: fewer training images (data.train_size), more classes or label noise; "
        "or compare test_nll, which does not saturate.",
    )


def _unstable_seeds(values: Floats, n: int, lost: Mapping[str, int], context: Context) -> Finding | None:
    """Whether the seeds of one arm are not one population, or spread too widely to find the margin.

    The spread counts when a paired study that gains nothing from pairing would need more than `N_MAX` seeds.
    """
    counts = [f"{k} of {n} runs {how}" for how, k in lost.items() if 0 < k < n]
    apart = outlying(values, context.margin) if values.size >= MIN_SEEDS else 0
    if apart:
        counts.append(f"{apart} of {n} runs lie far from the others")
    sd = float(values.std(ddof=1)) if values.size >= 3 else math.nan
    hopeless = math.isfinite(sd) and seeds_needed(context.margin, sd) is None
    if not counts and not hopeless:
        return None
    if math.isfinite(sd):
        counts.append(f"standard deviation over seeds {sd:.2f} points (n = {values.size})")
    if hopeless:
        counts.append(f"without gain from pairing, more than {N_MAX} seeds for the margin of {context.margin:g}")
    return Finding(
        "unstable_seeds",
        "warning",
        "Seeds disagree",
        f"{'; '.join(counts)}.",
        "Repeat with half of recipe.lr, a warm-up, or a schedule that ends near zero. If the spread stays, it comes "
        "from the splits: use more training images.",
    )


def _merged(seen: Sequence[tuple[int, Finding]], n: int) -> Finding:
    """One finding for all runs that show it; evidence is that of the gravest."""
    rank = _RANK[min((f.severity for _, f in seen), key=_RANK.__getitem__)]
    seed, worst = next((s, f) for s, f in seen if _RANK[f.severity] == rank)
    keep = worst.code == "diverged" or 2 * len(seen) >= n
    runs = (
        f"All {n} runs" if len(seen) == n else f"{len(seen)} of {n} runs (seeds {', '.join(str(s) for s, _ in seen)})"
    )
    return replace(
        worst,
        severity=worst.severity if keep else "info",
        evidence=f"{runs}; seed {seed}: {worst.evidence}",
    )


_LOST: dict[Code, str] = {"diverged": "diverged", "at_chance": "stayed at chance"}
_RANK: dict[Severity, int] = {"problem": 0, "warning": 1, "info": 2}


def _ordered(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: (_RANK[f.severity], f.code))
