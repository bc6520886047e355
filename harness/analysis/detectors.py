"""What the stored curves of one run say is wrong, and the probe that settles it.

Thresholds were set on real runs: none fires on twenty baseline runs of the bundled `digits` experiment, each
on the fault that it is named after. Slopes count when a one-sided t test at 2.5 % says so *and* they are large
on a scale that does not depend on the number of classes or epochs; on few points, either alone is often wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrik, stdtr

from harness.analysis.types import Finding, Severity

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

Floats = NDArray[np.float64]
Curves = dict[tuple[str, str], tuple[Floats, Floats]]
"""One run's curves: (split, metric) -> epochs and values, both of shape (points,), by increasing epoch."""


RANK: dict[Severity, int] = {"problem": 0, "warning": 1, "info": 2}


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
class Run:
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
        """How many validation images the run asked for."""
        return int(json.loads(self.row["spec"])["data"]["val_size"])

    @property
    def chance(self) -> float:
        """The loss of a guess; NaN where the number of classes is not known."""
        return math.log(self.context.classes) if self.context.classes else math.nan

    @property
    def rate(self) -> str:
        """What is known of the learning rate, in words; curves have it at ends of epochs, when it may have fallen."""
        _, lr = self.curve("train", "lr")
        asked = json.loads(self.row["spec"]).get("recipe", {}).get("lr")
        words = [f"recipe.lr = {asked:g}"] if asked is not None else []
        words += [f"learning rate up to {lr.max():.3g} at the end of an epoch"] if lr.size else []
        return ", ".join(words)


def findings_of(run: Run) -> list[Finding]:
    """What one run shows, the gravest first: nothing for skipped and failed runs; of one that diverged, only that."""
    if run.row["status"] not in ("ok", "diverged"):
        return []
    lost = _diverged(run)
    if lost:
        return [lost]
    chance = _at_chance(run)
    # What never left chance has neither converged nor overfitted, whatever the noise of its curves says.
    learnt = [] if chance else [_not_converged(run), _overfitting(run), _train_above_validation(run)]
    return gravest_first([f for f in (chance, *learnt, _validation_too_small(run)) if f])


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings by severity, and by name where that is equal."""
    return sorted(findings, key=lambda f: (RANK[f.severity], f.code))


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


def guessing(accuracy: float, n: int, classes: int) -> bool:
    """Whether a share of `n` images, in [0, 1], is no more than what guessing gets right (`guessed`)."""
    return round(accuracy * n) <= guessed(n, classes)


def _tail(epochs: Floats) -> slice:
    """The points of the end of the run, and at least `TAIL_POINTS` of them where there are that many."""
    return slice(-max(TAIL_POINTS, int((epochs > TAIL * epochs[-1]).sum())), None)


def _diverged(run: Run) -> Finding | None:
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
        f"{reason}{before}; {run.rate or 'learning rate unknown'}.",
        "Repeat with a tenth of recipe.lr. If that trains, the rate was too large: lower it or add warm-up or gradient "
        "clipping. If not, look at the loss of the first batch and at the precision.",
    )


def _at_chance(run: Run) -> Finding | None:
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
    if not guessing(accuracy, n, classes):
        return None
    return Finding(
        "at_chance",
        "problem",
        "Nothing was learnt",
        f"The training loss ends at {level:.3g} (first epoch {loss[0]:.3g}, highest {loss.max():.3g}, "
        f"ln {classes} = {run.chance:.3g}); {accuracy:.1%} of {n} validation images are right, and guessing gets up to "
        f"{guessed(n, classes) / n:.1%}; {run.rate or 'learning rate unknown'}.",
        "Repeat with recipe.lr ten times larger, or ten times smaller if the loss rose. If both stay at chance, train "
        "on a few dozen images without augmentation: a network that cannot memorise those has a wrong loss, wrong "
        "labels or weights that get no gradient.",
    )


def _not_converged(run: Run) -> Finding | None:
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


def _overfitting(run: Run) -> Finding | None:
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


def _train_above_validation(run: Run) -> Finding | None:
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


def _validation_too_small(run: Run) -> Finding | None:
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
