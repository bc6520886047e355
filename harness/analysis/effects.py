"""Paired effects of every arm of a study: from stored rows to numbers, tests, costs and verdicts.

The unit is the block: one seed, with the same split, initial weights and data order for all arms. Tests
and intervals are those of the paired t test; beside them stand the exact sign-flip permutation test and the
Wilcoxon signed-rank test. p values of a study are corrected together by Holm's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # those of scipy.stats.t, which takes half a second to import

from harness.analysis.blocks import blocks_of
from harness.analysis.checks import checks
from harness.analysis.examples import Right, image_error, mcnemar
from harness.analysis.power import mde, seeds_needed
from harness.analysis.rows import Floats, Pairs, Side, Table, margin_of, metric_of, split_rows
from harness.analysis.sequential import e_value
from harness.analysis.types import Analysis, Effect, Ratio, Verdict
from harness.analysis.verdicts import Evidence, Setting, judge, outlying
from harness.errors import UserError
from harness.metrics import TRAINING_TIME, usable
from harness.store.schema import Manifest

RESAMPLES = 2**14
"""Sign flips of a permutation test: all of them, so an exact p, up to 14 pairs; beyond, a seeded sample."""


def analyse(
    runs: pd.DataFrame,
    manifest: Manifest,
    *,
    metric: str | None = None,
    correct: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Analysis:
    """Compare every arm of a study with its baseline, seed by seed.

    Args:
        runs: rows with the columns of `harness.store.schema.RUNS`; rows of other studies or of other
            fingerprints, and repeated rows, may be among them and are left out.
        manifest: the study as declared.
        metric: as in `harness.analysis.rows.metric_of`; by default the one that the study declared.
        correct: run id -> whether each test image was classified correctly, shape (images,), ordered by
            dataset index, for `Effect.noise_share` of the test accuracy.

    Raises:
        UserError: the metric is unknown, or the study has no baseline.
    """
    what = metric_of(manifest, metric)
    baseline = manifest.baseline
    if baseline is None:
        raise UserError(f"study {manifest.study} has no baseline arm to compare with; run it again with one")

    own, elsewhere = split_rows(runs, manifest)
    table = Table(own)
    base = Side.of(baseline, table, what)
    pairs = [
        Pairs(arm, base, Side.of(arm, table, what), manifest.seeds) for arm in manifest.arms if arm is not baseline
    ]
    margin = margin_of(manifest, what)
    family = sum(len(p.seeds) >= 2 for p in pairs)
    setting = Setting(what.name, what.points, what.higher_is_better, margin, manifest.alpha, manifest.scope, family)
    # Predictions are stored for the test split.
    answers = correct if (what.split, what.needs) == ("test", "answers") else None
    drafts = [_draft(p, setting, answers) for p in pairs]
    # One correction of the p values that decide: those of the Wilcoxon test for unstable arms.
    deciding = [e.p_wilcoxon if evidence.instability(e) else e.p for e, evidence in drafts]
    effects = []
    for (draft, evidence), p in zip(drafts, holm(deciding).tolist(), strict=True):
        effect = replace(draft, p_holm=p)
        effects.append(replace(effect, verdict=judge(effect, evidence, setting)))
    values = base.values.to_numpy()
    return Analysis(
        metric=what.name,
        unit=what.points,
        higher_is_better=what.higher_is_better,
        margin=margin,
        alpha=manifest.alpha,
        baseline_n=values.size,
        baseline_mean=float(values.mean()) if values.size else math.nan,
        baseline_sd=float(values.std(ddof=1)) if values.size > 1 else math.nan,
        baseline_failed=int((base.status != "ok").sum()),
        effects=tuple(effects),
        checks=checks(own, elsewhere, pairs, manifest),
        study=manifest.study,
        scope=manifest.scope,
        blocks=blocks_of(own),
    )


def t_interval(x: ArrayLike, alpha: float = 0.05) -> tuple[Floats, Floats, Floats]:
    """Mean of `x` along its last axis with its 1 - `alpha` t interval: (mean, low, high).

    With one value, the interval is NaN.
    """
    x = np.asarray(x, dtype=float)
    mean, error, freedom = _moments(x)
    half = -stdtrit(freedom, alpha / 2) * error
    return mean, mean - half, mean + half


def t_test(x: ArrayLike) -> Floats:
    """Two-sided p of the t test that the mean of `x` along its last axis is zero.

    Where all values are equal, p is 1 if they are zero, else 0. With one value it is NaN.
    """
    mean, error, freedom = _moments(np.asarray(x, dtype=float))
    return np.asarray(2 * stdtr(freedom, -np.abs(_ratio(mean, error))))


def tost(x: ArrayLike, margin: float) -> Floats:
    """P of the two one-sided t tests that the mean of `x` along its last axis lies inside ±`margin`.

    It is below 0.05 exactly when the 90 % t interval lies inside (Schuirmann 1987).
    """
    mean, error, freedom = _moments(np.asarray(x, dtype=float))
    above_low = stdtr(freedom, -_ratio(mean + margin, error))
    below_high = stdtr(freedom, _ratio(mean - margin, error))
    return np.asarray(np.maximum(above_low, below_high))


def sign_flip_test(x: ArrayLike) -> float:
    """Two-sided p of the permutation test that flips the signs of `x`, shape (n,); exact up to n = 14."""
    x = np.asarray(x, dtype=float)
    if not x.any() or x.size < 2:  # one difference is as large with either sign
        return 1.0 if x.size else math.nan
    null, mean = _flips(x.size) @ x / x.size, x.mean()
    near = 100 * np.finfo(float).eps * np.abs(x).mean()  # means that differ by rounding alone are equal
    fewer = min((null <= mean + near).sum(), (null >= mean - near).sum())
    sampled = int(2**x.size > RESAMPLES)  # then the data themselves count as one more (Phipson and Smyth 2010)
    return float(min(1.0, 2 * (fewer + sampled) / (len(null) + sampled)))


@lru_cache(maxsize=8)
def _flips(n: int) -> Floats:
    """The signs that a permutation test of `n` pairs tries, shape (flips, n): all, or a sample for large `n`."""
    if 2**n <= RESAMPLES:
        return np.asarray(1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1), dtype=float)
    # The stream of scipy.stats.permutation_test, so that its p values are reproduced.
    both = np.tile([1.0, -1.0], (RESAMPLES, n, 1))
    return np.ascontiguousarray(np.random.default_rng(0).permuted(both, axis=-1)[..., 0])


def signed_ranks(x: ArrayLike) -> Floats:
    """Ranks of the absolute nonzero values of `x`, with their signs: what the Wilcoxon test permutes."""
    x = np.asarray(x, dtype=float)
    x = x[x != 0]
    _, group, size = np.unique(np.abs(x), return_inverse=True, return_counts=True)
    return np.asarray(np.sign(x) * (np.cumsum(size) - (size - 1) / 2)[group])  # equal values share their mean rank


def holm(p: ArrayLike) -> Floats:
    """P values corrected by Holm's step-down method along the last axis; NaN stay NaN and are not counted."""
    # Not statsmodels' multipletests: its import and its garbage collection take longer than all the rest.
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, axis=-1)  # NaN come last
    remaining = np.isfinite(values).sum(axis=-1, keepdims=True) - np.arange(values.shape[-1])
    stepped = np.maximum.accumulate(np.take_along_axis(values, order, axis=-1) * remaining, axis=-1)
    corrected = np.empty_like(values)
    np.put_along_axis(corrected, order, np.minimum(stepped, 1.0), axis=-1)
    return corrected


def _moments(x: Floats) -> tuple[Floats, Floats, int]:
    """Mean, standard error and degrees of freedom along the last axis."""
    n = x.shape[-1]
    error = x.std(axis=-1, ddof=1) / math.sqrt(n) if n > 1 else np.full(x.shape[:-1], math.nan)
    return x.mean(axis=-1), error, n - 1


def _ratio(a: ArrayLike, b: ArrayLike) -> Floats:
    """A / b, where 0 / 0 is 0 and other divisions by zero are infinite."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((a == 0) & (b == 0), 0.0, a / b)


def _draft(pairs: Pairs, setting: Setting, correct: Mapping[str, NDArray[np.bool_]] | None) -> tuple[Effect, Evidence]:
    """All numbers of one arm but `p_holm` and the verdict, which need the whole family."""
    plan, x, y, d, n = pairs.plan, pairs.x, pairs.y, pairs.d, len(pairs.seeds)
    nan = math.nan
    mean = float(d.mean()) if n else nan
    ranks = signed_ranks(d)
    low = high = sd = p = p_permutation = p_wilcoxon = p_tost = dz = smallest = correlation = gain = nan
    more = None
    if n >= 2:
        low, high = (float(v) for v in t_interval(d, setting.alpha)[1:])
        sd = float(d.std(ddof=1))
        p, p_tost = float(t_test(d)), float(tost(d, setting.margin))
        p_permutation, p_wilcoxon = sign_flip_test(d), (sign_flip_test(ranks) if d.any() else 1.0)
        dz = float(_ratio(mean, sd))
        # Holm's correction asks at most for the level that Bonferroni's does.
        level = setting.alpha / max(setting.family, 1)
        smallest = mde(sd, n, level)
        needed = seeds_needed(setting.margin, sd, level)
        more = needed - n if needed and needed > n else None
        if np.ptp(x) and np.ptp(y):
            correlation = float(np.corrcoef(x, y)[0, 1])
        if sd:
            gain = float(x.var(ddof=1) + y.var(ddof=1)) / sd**2
    better = d if setting.higher_is_better else -d
    status = pairs.arm.status
    digests = pairs.texts("test_digest")
    i, j = np.triu_indices(n)
    evidence = Evidence(
        skipped=plan.skipped or (str(_reasons(pairs)[0]) if len(status) and (status == "skipped").all() else None),
        n_ok=int((status == "ok").sum()),
        identical=bool(n and (digests[0] == digests[1]).all() and (digests[0] != "").all()),
        n_diverged_base=len(pairs.base.diverged),
        n_outlying=outlying(d, setting.margin),
        missing=dict(pairs.missing),
        typical=float(np.median((d[i] + d[j]) / 2)) if n else nan,
        direction=float(np.sign(ranks.sum())),
    )
    images = _images(pairs, correct) if correct is not None else []
    effect = Effect(
        arm=plan.label,
        tricks=tuple(sorted(plan.tricks)),
        n=n,
        n_planned=len(pairs.planned),
        seeds=tuple(pairs.seeds),
        base=tuple(x.tolist()),
        treated=tuple(y.tolist()),
        mean_base=float(x.mean()) if n else nan,
        mean_arm=float(y.mean()) if n else nan,
        mean=mean,
        low=low,
        high=high,
        sd=sd,
        p=p,
        p_holm=nan,
        p_permutation=p_permutation,
        p_wilcoxon=p_wilcoxon,
        p_tost=p_tost,
        dz=dz,
        wins=int((better > 0).sum()),
        ties=int((d == 0).sum()),
        mde=smallest,
        more_seeds=more,
        correlation=correlation,
        pairing_gain=gain,
        noise_share=_noise_share(pairs, correct, sd) if correct is not None else nan,
        time=_time_ratio(pairs),
        memory=_ratio_interval(*pairs.numbers("peak_memory_bytes")),
        n_diverged=len(pairs.arm.diverged),
        n_failed=int((status == "failed").sum()),
        n_skipped=int((status == "skipped").sum()),
        reasons=tuple(dict.fromkeys(filter(None, _reasons(pairs)[status != "ok"]))),
        verdict=Verdict("no verdict", "", ""),
        image_error=image_error(images),
        images=tuple((seed, *mcnemar(b, a)) for seed, (b, a) in zip(pairs.seeds, images, strict=False)),
        e_value=float(e_value(mean / (sd / math.sqrt(n)), n)) if n >= 2 and sd else nan,
    )
    return effect, evidence


def _reasons(pairs: Pairs) -> NDArray[np.object_]:
    """Why each run of the arm has no result; empty where it has one."""
    return pairs.arm.table.texts("reason", list(pairs.arm.rows.values()))


def _noise_share(pairs: Pairs, correct: Mapping[str, NDArray[np.bool_]], sd: float) -> float:
    """The sampling variance of the test images in one paired difference, over the variance across seeds."""
    noise = []
    for base_id, arm_id in zip(*pairs.texts("run_id"), strict=True):
        if base_id in correct and arm_id in correct:
            gained = correct[arm_id].astype(float) - correct[base_id].astype(float)
            noise.append(100.0**2 * gained.var() / gained.size)
    return float(np.clip(np.mean(noise) / sd**2, 0.0, 1.0)) if noise and sd > 0 else math.nan


def _images(pairs: Pairs, correct: Mapping[str, NDArray[np.bool_]]) -> list[tuple[Right, Right]]:
    """Baseline and arm on the test images of each pair; empty where predictions are missing or of other images."""
    ids = zip(*pairs.texts("run_id"), strict=True)
    known = [(correct[b], correct[a]) for b, a in ids if b in correct and a in correct]
    whole = len(known) == len(pairs.seeds) and all(len(b) == len(a) for b, a in known)
    return known if whole else []


def _time_ratio(pairs: Pairs) -> Ratio | None:
    """Training time over that of the baseline, with the other runs that the arm asked for."""
    devices = pairs.base.table.texts("device", list(pairs.base.rows.values()))
    base, arm = pairs.numbers(usable(TRAINING_TIME, devices).name)
    other = pairs.numbers("seconds_other")[1]
    return _ratio_interval(base, arm + np.where(np.isnan(other), 0.0, other))


def _ratio_interval(x: Floats, y: Floats) -> Ratio | None:
    """Geometric mean of y / x, pair by pair, or None where nothing positive was recorded."""
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if not usable.any():
        return None
    mean, low, high = t_interval(np.log(y[usable] / x[usable]))
    return Ratio(math.exp(mean), math.exp(low), math.exp(high), int(usable.sum()))
