"""What the curves of all runs of an arm say together, from what each shows (`harness.analysis.detectors`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from harness.analysis.detectors import RANK, Context, Curves, Floats, Run, findings_of, gravest_first
from harness.analysis.power import N_MAX, seeds_needed
from harness.analysis.types import Code, Finding
from harness.analysis.verdicts import MIN_SEEDS, outlying
from harness.store.reader import StudyData
from harness.store.schema import Manifest

SATURATION = 4.0
"""The error of the baseline, in margins, below which it is saturated: to find the margin, a trick would have to
remove more than a quarter of all errors left, which few tricks do."""


def context_of(data: StudyData, manifest: Manifest) -> Context:
    """The context of a study; the number of classes is that of its predictions, or of what they said."""
    return Context(manifest.margin, data.classes, manifest.metric)


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
    by_arm: dict[str, list[Run]] = {arm: [] for arm in arms}
    for row in rows.to_dict("records"):
        own = points.get((row["run_id"], row["fingerprint"]), {})
        by_arm[row["arm"]].append(Run({str(k): v for k, v in row.items()}, own, context))
    return {arm: _together(arm, found, context) for arm, found in by_arm.items()}


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


def _together(arm: str, runs: Sequence[Run], context: Context) -> list[Finding]:
    """The findings of one arm's runs, which are sorted by seed."""
    single: dict[Code, list[tuple[int, Finding]]] = {}
    for run in runs:
        for finding in findings_of(run):
            single.setdefault(finding.code, []).append((int(run.row["seed"]), finding))
    found = [_merged(seen, len(runs)) for seen in single.values()]
    scores = np.array([run.number(context.metric) for run in runs if run.row["status"] == "ok"], dtype=float)
    values = 100 * scores[~np.isnan(scores)]
    if arm == "baseline":
        found += filter(None, [_saturated(values, context)])
    lost = {how: len(single.get(code, [])) for code, how in _LOST.items()}
    found += filter(None, [_unstable_seeds(values, len(runs), lost, context)])
    return gravest_first(found)


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
    rank = RANK[min((f.severity for _, f in seen), key=RANK.__getitem__)]
    seed, worst = next((s, f) for s, f in seen if RANK[f.severity] == rank)
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
