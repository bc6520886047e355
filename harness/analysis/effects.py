"""Paired effects of every arm of a study: from stored rows to numbers, tests, costs and verdicts.

The unit is the block: one seed, with the same split, initial weights and data order for all arms. Tests
and intervals are those of the paired t test; beside them stand the exact sign-flip permutation test and the
Wilcoxon signed-rank test. p values of a study are corrected together by Holm's method, and from `MANY` arms on
beside it by that of Benjamini and Hochberg.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.blocks import blocks_of
from harness.analysis.checks import checks
from harness.analysis.examples import Right, image_error, mcnemar, mcnemar_p
from harness.analysis.inference import (
    benjamini_hochberg,
    deviation,
    holm,
    sign_flip_test,
    signed_rank_test,
    signed_ranks,
    t_interval,
    t_test,
    tost,
    widened,
)
from harness.analysis.power import mde, seeds_needed
from harness.analysis.rows import Floats, Pairs, Side, Table, margin_of, metric_of, split_rows
from harness.analysis.sentences import judge
from harness.analysis.sequential import e_value
from harness.analysis.types import Analysis, Effect, Ratio, Test, Verdict
from harness.analysis.verdicts import MANY, Evidence, Setting, outlying
from harness.errors import UserError
from harness.metrics import BESIDE, TRAINING_TIME, WALL, Metric, usable
from harness.store.schema import Manifest


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
        Pairs(arm, base, Side.of(arm, table, what), manifest.planned(arm))
        for arm in manifest.arms
        if arm is not baseline
    ]
    margin = margin_of(manifest, what)
    family = sum(len(p.seeds) + len(p.lost) >= 2 for p in pairs)
    setting = Setting(
        what.name,
        what.points,
        what.higher_is_better,
        margin,
        manifest.alpha,
        manifest.scope,
        family,
        _grain(what, own, correct),
        "prediction" if manifest.in_loop else "logged number",
        manifest.overlap,
    )
    # Predictions are stored for the test split.
    answers = correct if (what.split, what.needs) == ("test", "answers") else None
    effects = _corrected([_draft(p, setting, answers) for p in pairs], setting)
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
        checks=checks(own, elsewhere, base, pairs, manifest),
        study=manifest.study,
        scope=manifest.scope,
        family=family,
        blocks=blocks_of(own),
    )


def _grain(metric: Metric, rows: pd.DataFrame, correct: Mapping[str, NDArray[np.bool_]] | None) -> float:
    """What one test image is worth, in points of an accuracy; 0 for other metrics, and where the size is not known."""
    if (metric.split, metric.needs) != ("test", "answers") or metric.points != "points":
        return 0.0
    images = next((answers.size for answers in (correct or {}).values()), 0)
    try:
        images = images or int(json.loads(rows["spec"].iloc[0])["data"]["test_size"])
    except (IndexError, KeyError, TypeError, ValueError):  # a whole official test split, or rows of a foreign program
        return 0.0
    return 100 / images if images else 0.0


def _draft(pairs: Pairs, setting: Setting, correct: Mapping[str, NDArray[np.bool_]] | None) -> tuple[Effect, Evidence]:
    """All numbers of one arm but those that are corrected, and the verdict, which need the whole family."""
    plan, x, y, d, n = pairs.plan, pairs.x, pairs.y, pairs.d, len(pairs.seeds)
    nan = math.nan
    mean = float(d.mean()) if n else nan
    judged = pairs.outcomes(setting.higher_is_better)
    ranks = signed_ranks(judged)
    low = high = low_all = high_all = sd = p = p_permutation = p_tost = dz = smallest = correlation = gain = nan
    more = more_for_effect = None
    independent = not pairs.lost and not setting.overlap
    if n >= 2:
        if setting.overlap:
            d = widened(d, setting.overlap)
        sd = float(deviation(d))
        if sd or not mean:
            low, high = (float(v) for v in t_interval(d, setting.alpha)[1:])
            low_all, high_all = (float(v) for v in t_interval(d, setting.level)[1:])
        if not pairs.lost and (sd or not setting.overlap):
            p, p_tost = float(t_test(d)), float(tost(d, setting.margin))
            p_permutation = nan if setting.overlap else sign_flip_test(d)
            dz = float(mean / sd) if sd else math.copysign(math.inf, mean) if mean else 0.0
        # Holm's correction asks at most for the level that Bonferroni's does.
        smallest = mde(sd, n, setting.level)
        if not setting.overlap:  # there are no further folds
            more = _more(setting.margin, sd, n, setting.level)
            more_for_effect = _more(abs(mean), sd, n, setting.level)
        if np.ptp(x) and np.ptp(y):
            correlation = float(np.corrcoef(x, y)[0, 1])
        if sd:
            gain = float(x.var(ddof=1) + y.var(ddof=1)) / float(deviation(pairs.d)) ** 2
    better = judged if setting.higher_is_better else -judged
    status = pairs.arm.status
    digests = pairs.texts("test_digest")
    i, j = np.triu_indices(n)
    evidence = Evidence(
        skipped=plan.skipped or (str(_reasons(pairs)[0]) if len(status) and (status == "skipped").all() else None),
        n_ok=int((status == "ok").sum()),
        identical=bool(n and (digests[0] == digests[1]).all() and (digests[0] != "").all()),
        constant=n >= 2 and not pairs.lost and not np.ptp(y) and (not np.ptp(x) or _one_run(digests[1])),
        n_diverged_base=len(pairs.base.diverged),
        n_outlying=outlying(d, setting.margin, setting.grain),
        missing=dict(pairs.missing),
        typical=float(np.median((d[i] + d[j]) / 2)) if n else nan,
        direction=float(np.sign(ranks.sum())),
    )
    test, least = _test_of(pairs, evidence, ranks, sd, setting)
    images = _images(pairs, correct) if correct is not None else []
    lost = Counter(pairs.lost)
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
        p_wilcoxon=signed_rank_test(judged) if len(judged) > 1 and not setting.overlap else nan,
        p_tost=p_tost,
        dz=dz,
        wins=int((better > 0).sum()),
        ties=int((judged == 0).sum()),
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
        e_value=float(e_value(mean / (sd / math.sqrt(n)), n)) if n >= 2 and sd and independent else nan,
        test=test,
        p_least=least,
        low_all=low_all,
        high_all=high_all,
        lost=(lost[False, True], lost[True, False], lost[True, True]),
        more_for_effect=more_for_effect,
    )
    return effect, evidence


def _test_of(pairs: Pairs, evidence: Evidence, ranks: Floats, sd: float, setting: Setting) -> tuple[Test, float]:
    """The test that decides on an arm, and the smallest p that it can have."""
    least = min(1.0, 2.0 ** (1 - ranks.size))
    if setting.overlap:
        return "t", 0.0
    if pairs.lost:
        return "signed-rank", least
    if sd == 0 and pairs.d.any():
        return "sign-flip", least
    # A rank test that cannot reach its level would decide that nothing is there.
    if evidence.n_outlying and least < setting.level:
        return "signed-rank", least
    return "t", 0.0


def _one_run(digests: NDArray[np.object_]) -> bool:
    """Whether an arm predicts the same with every seed, which it then does not use."""
    return len(set(digests)) == 1 and digests[0] != ""


def _more(effect: float, sd: float, n: int, level: float) -> int | None:
    """How many more than `n` seeds find such an effect with 80 % power."""
    needed = seeds_needed(effect, sd, level)
    return needed - n if needed and needed > n else None


def _corrected(drafts: Sequence[tuple[Effect, Evidence]], setting: Setting) -> list[Effect]:
    """The effects with what is corrected over the family, and with their verdicts."""
    deciding = [e.p_wilcoxon if e.test == "signed-rank" else e.p for e, _ in drafts]
    q = benjamini_hochberg(deciding) if setting.family >= MANY else [math.nan] * len(drafts)
    equal = holm([e.p_tost for e, _ in drafts])
    lost = holm([mcnemar_p(e.lost[0], e.lost[1]) if e.n_judged > 1 else math.nan for e, _ in drafts])
    effects = []
    for (draft, evidence), *values in zip(drafts, holm(deciding), q, equal, lost, strict=True):
        p_holm, rate, p_tost_holm, p_lost = map(float, values)
        effect = replace(draft, p_holm=p_holm, q=rate, p_tost_holm=p_tost_holm, p_lost=p_lost)
        effects.append(replace(effect, verdict=judge(effect, evidence, setting)))
    return effects


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
    """Cost over that of the baseline, on one clock: training, set-up and the runs that it needs."""
    devices = pairs.base.table.texts("device", list(pairs.base.rows.values()))
    clock = usable(TRAINING_TIME, devices).name
    wall, cpu = (np.concatenate(pairs.numbers(name)) for name in ("seconds_other", "cpu_seconds_other"))
    if ((wall > 0) & np.isnan(cpu)).any():  # rows of earlier versions know the wall time alone
        clock = WALL
    base, arm = pairs.numbers(clock)
    for name in BESIDE[clock]:
        base, arm = (
            side + np.where(np.isnan(more), 0.0, more)
            for side, more in zip((base, arm), pairs.numbers(name), strict=True)
        )
    return _ratio_interval(base, arm)


def _ratio_interval(x: Floats, y: Floats) -> Ratio | None:
    """Geometric mean of y / x, pair by pair, or None where nothing positive was recorded."""
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    if not usable.any():
        return None
    mean, low, high = t_interval(np.log(y[usable] / x[usable]))
    return Ratio(math.exp(mean), math.exp(low), math.exp(high), int(usable.sum()))
