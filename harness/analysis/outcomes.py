"""What predictions show beside their accuracy: effects on single classes, churn and calibration.

Two steps. `tabulate` counts the predictions of each run into the few rows of `harness.store.schema.OUTCOMES`, which a
published study keeps in place of predictions. `summarise` compares the arms from these rows, paired by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.analysis.inference import holm, t_interval, t_test
from harness.analysis.rows import Floats, own_rows
from harness.store.reader import Answers, StudyData
from harness.store.schema import ANSWER, ANSWERS_APART, CONFIDENCE_BINS, OUTCOMES, SCHEMA_VERSION, Manifest

RELATIONS = ("same", "fixed", "broken", "changed")
"""How a run's answer to an image compares with that of the baseline of the same seed (see `OUTCOMES`)."""

PLACEBO = "placebo"
"""The trick that redraws the random streams on the same split: its churn is that of training alone."""


@dataclass(frozen=True)
class Mean:
    """A mean over `n` seeds, in points, with its 1 - alpha t interval and the p of the t test that it is zero.

    With one seed, interval and p are NaN. `p_holm` is p adjusted for the family that the owner names.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan
    p_holm: float = math.nan


@dataclass(frozen=True)
class Churn:
    """Test images whose answer is not that of the baseline of the same seed, in percent of the test images.

    `total` is the churn of Milani Fard et al. 2016 (Launch and Iterate: Reducing Prediction Churn): fixed, broken and
    changed together. `broken` are the negative flips of Yan et al. 2021 (2011.09161). Fixed minus broken is the effect
    on the accuracy. `beyond` is the total minus that of the placebo, seed by seed; None where there is no placebo.
    """

    total: Mean
    fixed: Mean
    broken: Mean
    changed: Mean
    beyond: Mean | None = None


@dataclass(frozen=True)
class Bin:
    """The predictions of one bin of confidence, pooled over `seeds` runs and `images` predictions, in percent.

    `low` and `high` bound the accuracy: the t interval over seeds of a ratio of sums, by linearisation (Cochran 1977,
    Sampling Techniques, chapter 6). NaN where the bin is filled in fewer than two runs.
    """

    confidence: float
    accuracy: float
    low: float
    high: float
    images: int
    seeds: int


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy agree, in points.

    `bins` are those that hold predictions, `ece` is the mean of the stored test ECE, and `gap` that of confidence minus
    accuracy: positive for networks that are too sure.
    """

    bins: tuple[Bin, ...]
    ece: Mean
    gap: Mean


@dataclass(frozen=True)
class ArmOutcome:
    """One arm against the baseline of the same seed.

    `classes` are the differences of accuracy by class, with p adjusted for the classes of the arm; `ece_change` is that
    of the test ECE, with p adjusted for the arms of the study.
    """

    arm: str
    tricks: tuple[str, ...]
    classes: tuple[Mean, ...]
    churn: Churn
    calibration: Calibration
    ece_change: Mean


@dataclass(frozen=True)
class Outcomes:
    """What the predictions of a study show.

    `accuracy` and `confidence` are the baseline's by class, in percent. `images` is the size of a test split.
    """

    alpha: float
    images: int
    accuracy: tuple[Mean, ...]
    confidence: tuple[Mean, ...]
    calibration: Calibration
    arms: tuple[ArmOutcome, ...]


def tabulate(data: StudyData, manifests: Iterable[Manifest]) -> pa.Table:
    """The rows of `OUTCOMES` of these studies' runs, as far as their predictions are stored.

    Sorted by run, so that equal predictions give equal tables.
    """
    others: dict[tuple[str, str], set[str]] = {}
    for manifest in manifests:
        base = manifest.baseline
        for arm in manifest.arms:
            for seed, run_id in arm.run_ids.items():
                against = others.setdefault((run_id, manifest.fingerprint), set())
                if arm is not base and base is not None and seed in base.run_ids:
                    against.add(base.run_ids[seed])
    columns: dict[str, list[Any]] = {name: [] for name in OUTCOMES.names}
    for run in sorted(others.keys() & data.answers.keys()):
        answers = data.answers[run]
        for group, member, size in (
            ("class", answers.label, data.classes or 0),
            ("bin", _bin_of(answers), CONFIDENCE_BINS),
        ):
            _count(columns, (*run, ""), [group] * size, range(size), answers, member)
        pair = ANSWERS_APART * answers.label.astype(np.int64) + answers.predicted
        keys, member = np.unique(pair, return_inverse=True)
        _count(columns, (*run, ""), [ANSWER] * len(keys), keys.tolist(), answers, member)
        for other in sorted(others[run]):
            base_answers = data.answers.get((other, run[1]))
            if base_answers is not None and np.array_equal(base_answers.index, answers.index):
                relation = _relation_of(base_answers, answers)
                _count(columns, (*run, other), RELATIONS, [0] * len(RELATIONS), answers, relation)
    columns["schema_version"] = [SCHEMA_VERSION] * len(columns["n"])
    return pa.table(columns, schema=OUTCOMES)


def _count(
    columns: dict[str, list[Any]],
    run: tuple[str, str, str],
    groups: Sequence[str],
    keys: Iterable[int],
    answers: Answers,
    member: NDArray[np.integer],
) -> None:
    """Append a row for each group of images, where `member` is the position of each image's group."""
    size = len(groups)
    for name, value in zip(("run_id", "fingerprint", "against"), run, strict=True):
        columns[name] += [value] * size
    columns["group"] += groups
    columns["key"] += keys
    columns["n"] += np.bincount(member, minlength=size).tolist()
    columns["correct"] += np.bincount(member[answers.right], minlength=size).tolist()
    columns["confidence"] += np.bincount(member, weights=answers.confidence, minlength=size).tolist()


def _bin_of(answers: Answers) -> NDArray[np.int64]:
    """Each image's bin of confidence, as for the stored ECE."""
    return np.minimum((answers.confidence.astype(float) * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)


def _relation_of(base: Answers, arm: Answers) -> NDArray[np.int64]:
    """For each image, the position in `RELATIONS`."""
    differ = base.predicted != arm.predicted
    return np.select([arm.right & differ, base.right & differ, differ], [1, 2, 3], 0)


def summarise(rows: pd.DataFrame, runs: pd.DataFrame, manifest: Manifest) -> Outcomes | None:
    """Compare every arm with the baseline of the same seed; None where there are not rows of both.

    Args:
        rows: with the columns of `OUTCOMES`; those of other studies and of other fingerprints are left out.
        runs: with the columns of `RUNS`, for the stored ECE.
        manifest: the study as declared.
    """
    base = manifest.baseline
    rows = rows[rows["fingerprint"] == manifest.fingerprint]
    known = set(rows["run_id"])
    if base is None or known.isdisjoint(base.run_ids.values()):
        return None
    arms = [a for a in manifest.arms if a is not base and not known.isdisjoint(a.run_ids.values())]
    if not arms:
        return None
    seeds, alpha = manifest.seeds, manifest.alpha
    # All arrays below are (arms, seeds, ...), the baseline first, NaN where a run is missing.
    ids = np.array([[arm.run_ids.get(seed, "") for seed in seeds] for arm in (base, *arms)], dtype=object)
    n, correct, confidence = _wide(rows[rows["group"] == "class"], ids)
    size = n.sum(-1)
    accuracy = 100 * _divide(correct, n)
    gap = 100 * _divide(confidence.sum(-1) - correct.sum(-1), size)
    own = own_rows(runs, manifest)
    stored = own[own["ok"]].set_index("run_id")["test_ece"].astype(float)
    ece = 100 * stored.reindex(ids.ravel()).to_numpy().reshape(ids.shape)
    in_bin, right, sure = _wide(rows[rows["group"] == "bin"], ids)
    shares = _shares(rows, ids)
    total = shares[..., 1:].sum(-1)
    placebo = next((i for i, arm in enumerate(arms, start=1) if set(arm.tricks) == {PLACEBO}), None)
    changes = _adjusted([_mean(row, alpha) for row in ece[1:] - ece[0]])

    def calibration(i: int) -> Calibration:
        return Calibration(_bins(in_bin[i], right[i], sure[i], alpha), _mean(ece[i], alpha), _mean(gap[i], alpha))

    def churn(i: int) -> Churn:
        fixed, broken, changed = (_mean(shares[i, :, k], alpha) for k in (1, 2, 3))
        beyond = None if placebo in (None, i) else _mean(total[i] - total[placebo], alpha)
        return Churn(_mean(total[i], alpha), fixed, broken, changed, beyond)

    return Outcomes(
        alpha=alpha,
        images=int(np.nanmax(size)),
        accuracy=tuple(_mean(row, alpha) for row in accuracy[0].T),
        confidence=tuple(_mean(row, alpha) for row in 100 * _divide(confidence[0], n[0]).T),
        calibration=calibration(0),
        arms=tuple(
            ArmOutcome(
                arm=arm.label,
                tricks=tuple(sorted(arm.tricks)),
                classes=tuple(_adjusted([_mean(row, alpha) for row in (accuracy[i] - accuracy[0]).T])),
                churn=churn(i),
                calibration=calibration(i),
                ece_change=changes[i - 1],
            )
            for i, arm in enumerate(arms, start=1)
        ),
    )


def _wide(rows: pd.DataFrame, ids: NDArray[np.object_]) -> list[Floats]:
    """Images, right ones and sums of confidences, each an array (*ids.shape, keys)."""
    values = ["n", "correct", "confidence"]
    table = rows.pivot(index="run_id", columns="key", values=values).reindex(ids.ravel())
    return [table[name].to_numpy(dtype=float).reshape(*ids.shape, -1) for name in values]


def _shares(rows: pd.DataFrame, ids: NDArray[np.object_]) -> Floats:
    """Percent of the test images in each of `RELATIONS` to the baseline's run, (arms, seeds, relations)."""
    of_seed = dict(zip(ids[1:].ravel(), np.broadcast_to(ids[0], ids[1:].shape).ravel(), strict=True))
    pairs = rows[rows["group"].isin(RELATIONS) & (rows["against"] == rows["run_id"].map(of_seed))]
    counts = pairs.pivot(index="run_id", columns="group", values="n").reindex(index=ids.ravel(), columns=RELATIONS)
    n = counts.to_numpy(dtype=float).reshape(*ids.shape, -1)
    return 100 * _divide(n, n.sum(-1, keepdims=True))


def _bins(n: Floats, correct: Floats, confidence: Floats, alpha: float) -> tuple[Bin, ...]:
    """The filled bins of one arm, each pooled over its seeds; arguments are (seeds, bins)."""
    found = []
    for k in range(n.shape[1]):
        filled = n[:, k] > 0  # NaN is not
        seeds, images = int(filled.sum()), float(n[filled, k].sum())
        if not seeds:
            continue
        share = correct[filled, k].sum() / images
        error = math.nan
        if seeds > 1:
            error = math.sqrt(((correct[filled, k] - share * n[filled, k]) ** 2).sum() * seeds / (seeds - 1)) / images
        half = error * stdtrit(seeds - 1, 1 - alpha / 2)
        found.append(
            Bin(
                confidence=100 * float(confidence[filled, k].sum()) / images,
                accuracy=100 * float(share),
                low=100 * max(share - half, 0.0) if seeds > 1 else math.nan,
                high=100 * min(share + half, 1.0) if seeds > 1 else math.nan,
                images=int(images),
                seeds=seeds,
            )
        )
    return tuple(found)


def _mean(x: Floats, alpha: float) -> Mean:
    """The mean of the values that are finite, with its t interval and test."""
    x = np.round(x[np.isfinite(x)], 10)  # counts over counts: equal differences must be exactly equal
    n = len(x)
    if n < 2:
        return Mean(float(x[0]) if n else math.nan, math.nan, math.nan, n)
    mean, low, high = (float(v) for v in t_interval(x, alpha))
    return Mean(mean, low, high, n, float(t_test(x)))


def _adjusted(family: Sequence[Mean]) -> list[Mean]:
    """The same with their p adjusted for one another by Holm's method."""
    return [replace(m, p_holm=float(p)) for m, p in zip(family, holm([m.p for m in family]), strict=True)]


def _divide(a: Floats, b: Floats) -> Floats:
    """A / b, NaN where b is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(b > 0, a / b, math.nan)
