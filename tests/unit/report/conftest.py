"""Invented studies: a manifest, its runs and curves, and an analysis written by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from harness import testing
from harness.analysis.rows import own_rows, points_of
from harness.analysis.types import Analysis, Effect, Ratio, Verdict, VerdictKind
from harness.store.schema import CURVES, METRICS, RUNS, Manifest

GAINS = {"mixup": 1.3, "ema": -0.03, "sam": 0.35, "dropout": -1.6, "cutmix+label_smoothing": 0.9}
COSTS = {"mixup": 1.03, "ema": 1.06, "sam": 1.93, "dropout": 1.01, "cutmix+label_smoothing": 1.05}


@dataclass(frozen=True)
class Study:
    manifest: Manifest
    analysis: Analysis
    runs: pd.DataFrame
    curves: pd.DataFrame

    @property
    def own(self) -> pd.DataFrame:
        return own_rows(self.runs, self.manifest)

    @property
    def points(self) -> pd.DataFrame:
        own = self.own
        return points_of(self.curves, own.loc[own["ok"], ["run_id", "fingerprint", "label"]])

    @property
    def parts(self):
        return self.manifest, self.analysis, self.own, self.points


def make_effect(arm: str, base: np.ndarray, treated: np.ndarray, cost: float) -> Effect:
    n, d = len(base), treated - base
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    half = 2.262 * sd / math.sqrt(n)
    low, high = mean - half, mean + half
    kind: VerdictKind = "helps" if low > 0 else "hurts" if high < 0 else "undecided"
    if kind == "undecided" and half < 0.5:
        kind = "equivalent"
    label = {
        "helps": f"helps {mean:+.2f} pt [{low:.2f}, {high:.2f}], 8/10 seeds",
        "hurts": f"hurts {mean:+.2f} pt [{low:.2f}, {high:.2f}], 8/10 seeds",
        "equivalent": "equivalent within ±0.5",
        "undecided": "no detectable difference (could be -0.4 to +1.0; MDE 1.0 pt)",
    }[kind]
    sentence = (
        f"{arm} {kind} on digits, 100 training images: {mean:+.2f} points [{low:.2f}, {high:.2f}], "
        f"better in {(d > 0).sum()} of {n} seeds, p = 0.0016 after Holm's correction for 5 arms."
    )
    p = 0.0004 if kind == "helps" else 0.21
    return Effect(
        arm=arm,
        tricks=tuple(arm.split("+")),
        n=n,
        n_planned=n,
        seeds=tuple(range(n)),
        base=tuple(base.tolist()),
        treated=tuple(treated.tolist()),
        mean_base=float(base.mean()),
        mean_arm=float(treated.mean()),
        mean=mean,
        low=low,
        high=high,
        sd=sd,
        p=p,
        p_holm=min(1.0, 4 * p),
        p_permutation=0.0137,
        p_wilcoxon=0.02,
        p_tost=0.4,
        dz=mean / sd,
        wins=int((d > 0).sum()),
        ties=0,
        mde=2.9 * sd / math.sqrt(n) * 1.1,
        more_seeds=7 if kind == "undecided" else None,
        correlation=0.72,
        pairing_gain=3.4,
        noise_share=0.31,
        time=Ratio(cost, cost - 0.03, cost + 0.03, n),
        memory=Ratio(1.1, 1.09, 1.11, n),
        n_diverged=0,
        n_failed=0,
        n_skipped=0,
        reasons=(),
        verdict=Verdict(kind, label, sentence),
        p_tost_holm=0.4,
        low_all=mean - 1.5 * half,
        high_all=mean + 1.5 * half,
    )


def empty_effect(arm: str, kind: VerdictKind, reason: str, planned: int) -> Effect:
    nan = math.nan
    return Effect(
        arm=arm,
        tricks=tuple(arm.split("+")),
        n=0,
        n_planned=planned,
        seeds=(),
        base=(),
        treated=(),
        mean_base=nan,
        mean_arm=nan,
        mean=nan,
        low=nan,
        high=nan,
        sd=nan,
        p=nan,
        p_holm=nan,
        p_permutation=nan,
        p_wilcoxon=nan,
        p_tost=nan,
        dz=nan,
        wins=0,
        ties=0,
        mde=nan,
        more_seeds=None,
        correlation=nan,
        pairing_gain=nan,
        noise_share=nan,
        time=None,
        memory=None,
        n_diverged=0,
        n_failed=planned if kind == "failed" else 0,
        n_skipped=planned if kind == "skipped" else 0,
        reasons=(reason,),
        verdict=Verdict(kind, kind, f"{arm} was {kind}: {reason}"),
    )


def make_study(gains: dict[str, float] = GAINS, seeds: int = 10, epochs: int = 20, experiment: str = "digits") -> Study:
    """The arms of `gains`, one arm that is skipped and one whose runs all failed."""
    rng = np.random.default_rng(0)
    block = rng.normal(0, 1.6, seeds)
    finals = {"baseline": 88.4 + block + rng.normal(0, 0.6, seeds)}
    for arm, gain in gains.items():
        finals[arm] = 88.4 + gain + block + rng.normal(0, 0.6, seeds)
    lost = {"asam+sam": ("skipped", "both own the gradient"), "swin": ("failed", "out of memory")}
    arms = [
        testing.make_arm(
            arm,
            tricks={} if arm == "baseline" else {t: {"alpha": 1.0} for t in arm.split("+")},
            run_ids={s: f"{i:04x}{s:012x}" for s in range(seeds)},
            skipped=lost["asam+sam"][1] if arm == "asam+sam" else None,
        )
        for i, arm in enumerate([*finals, *lost])
    ]
    manifest = testing.make_manifest(
        arms,
        seeds,
        study="digits_many",
        experiment=experiment,
        question="Which regularisers help a small network on 100 digit images?",
        scope="digits, 100 training images, digits_resnet (19,610 parameters), 80 epochs",
        command="harness ablate mixup ema sam dropout --experiment digits --seeds 10",
        toml='[experiment]\nname = "digits"\nmargin = 0.5\n',
        created="2025-01-01T12:00:00+00:00",
    )
    effects = tuple(
        make_effect(arm, finals["baseline"], finals[arm], COSTS.get(arm, 1 + (i % 13) / 20))
        for i, arm in enumerate(gains)
    ) + tuple(empty_effect(arm, kind, reason, seeds) for arm, (kind, reason) in lost.items())
    analysis = Analysis(
        metric="test_accuracy",
        unit="points",
        higher_is_better=True,
        margin=0.5,
        alpha=0.05,
        baseline_n=seeds,
        baseline_mean=float(finals["baseline"].mean()),
        baseline_sd=float(finals["baseline"].std(ddof=1)),
        baseline_failed=0,
        effects=effects,
        checks=(
            ("Every seed has a baseline and an arm", "holds", "10 of 10"),
            ("One fingerprint", "not known", ""),
            ("Clean git tree", "fails", "uncommitted changes"),
        ),
        family=len(gains),
    )
    runs, curves = [], []
    for plan in arms:
        for seed in plan.run_ids:
            if plan.label == "asam+sam":
                continue
            failed = plan.label == "swin"
            row = testing.make_row(
                plan, seed, experiment=experiment, status="failed" if failed else "ok",
                reason="out of memory" if failed else "", packed=seed % 2 == 0, git_dirty=True,
                versions='{"torch": "2.11.0", "numpy": "2.2.0"}',
                **{f"{split}_{metric}": 0.5 for split in ("val", "test") for metric in METRICS},
            )  # fmt: skip
            runs.append(row)
            if failed:
                continue
            final = finals[plan.label][seed] / 100
            at = np.arange(1, epochs + 1)
            rise = final - 0.6 * np.exp(-at * 8 / epochs) + rng.normal(0, 0.006, epochs)
            curves += testing.make_curve(
                row,
                {
                    "val.accuracy": rise,
                    "val.nll": 2.2 * (1 - rise),
                    "train.loss": 1.8 * (1 - rise) ** 1.4,
                    "test.accuracy": np.full(epochs, 0.424242),
                },
            )
    return Study(
        manifest,
        analysis,
        pd.DataFrame(runs, columns=RUNS.names),
        pd.DataFrame(curves, columns=CURVES.names[:8]),
    )


@pytest.fixture(scope="session")
def study() -> Study:
    return make_study()


@pytest.fixture(scope="session")
def study_of():
    """The factory, for studies of other shapes."""
    return make_study
