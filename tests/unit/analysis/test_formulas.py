"""The formulas that stand in for functions of scipy.stats, which take longer to import and to call, agree with them."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.detectors import guessed, slope_test
from harness.analysis.diagnosis import curves_by_run
from harness.analysis.examples import mcnemar
from harness.analysis.inference import RESAMPLES, sign_flip_test, signed_ranks, t_interval, t_test, tost
from harness.analysis.power import achieved_power
from harness.analysis.sequential import calibrate
from harness.analysis.verdicts import NORMAL_QUARTILE
from harness.report.load import load
from harness.store.schema import CURVES

CLOSE = {"rel": 1e-12, "abs": 1e-12}


def scipy_sign_flip(x: np.ndarray) -> float:
    return float(
        stats.permutation_test(
            (x,),
            lambda flipped, axis: np.mean(flipped, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(0),
        ).pvalue
    )


@pytest.mark.parametrize("n", [2, 3, 5, 10, 14, 15, 20])
def test_sign_flips_are_those_of_the_permutation_test(n: int) -> None:
    rng = np.random.default_rng(n)
    # Continuous ones; accuracies of 1,400 images with ties and zeros; ranks; and all equal.
    counts = np.round(100 * rng.integers(-9, 12, n) / 1400, 10)
    for x in (rng.normal(0.3, 1, n), counts, np.sign(rng.normal(size=n)) * (1 + np.arange(n)), np.full(n, 0.1)):
        assert sign_flip_test(x) == pytest.approx(scipy_sign_flip(x), **CLOSE)


def test_flips_that_differ_by_rounding_alone_count_as_equal() -> None:
    # The mean of these three is 0 but for rounding, and no flip is closer to zero: p is 1.
    assert sign_flip_test([0.1, 0.2, -0.3]) == 1.0
    # Two of eight flips, +++ and ---, are as extreme as the data.
    assert sign_flip_test([0.1, 0.2, 0.3]) == 2 / 8


@pytest.mark.parametrize("n", [2, 3, 10, 200])
def test_t_tests_and_intervals_are_those_of_student(n: int) -> None:
    x = np.random.default_rng(n).normal(0.2, 1, (50, n))
    mean, error = x.mean(axis=1), stats.sem(x, axis=1)
    low, high = stats.t.interval(0.9, n - 1, mean, error)
    assert np.column_stack(t_interval(x, 0.1)) == pytest.approx(np.column_stack([mean, low, high]), **CLOSE)
    assert t_test(x) == pytest.approx(stats.ttest_1samp(x, 0.0, axis=1).pvalue, **CLOSE)
    above = stats.ttest_1samp(x, -0.5, axis=1, alternative="greater").pvalue
    below = stats.ttest_1samp(x, 0.5, axis=1, alternative="less").pvalue
    assert tost(x, 0.5) == pytest.approx(np.maximum(above, below), **CLOSE)


def test_one_value_and_unknown_values_have_no_test() -> None:
    assert np.isnan([*t_interval([1.5])[1:], t_test([1.5]), tost([1.5], 0.5), t_test([1.0, math.nan])]).all()


def test_signed_ranks_share_ties_as_rankdata_does() -> None:
    x = np.random.default_rng(0).integers(-4, 5, 40)
    x = x[x != 0]
    assert signed_ranks(x).tolist() == (np.sign(x) * stats.rankdata(np.abs(x))).tolist()
    assert signed_ranks([]).tolist() == []


@pytest.mark.parametrize("n", [3, 4, 8, 20])
@pytest.mark.parametrize(("sign", "alternative"), [(1, "greater"), (-1, "less")])
def test_slopes_are_those_of_linear_regression(n: int, sign: int, alternative: str) -> None:
    rng = np.random.default_rng(n)
    x = np.sort(rng.choice(100, n, replace=False)).astype(float)
    lines = (rng.normal(size=n), 3 - 0.1 * x + rng.normal(0, 0.01, n), 1e6 + x, -2.5 * x)
    for y in lines:
        fit = stats.linregress(x, y, alternative=alternative)
        slope, p = slope_test(x, y, sign)
        assert slope == pytest.approx(fit.slope, rel=1e-9)
        assert p == pytest.approx(fit.pvalue, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("y", [[2.0, 1.0], [1.0, 1.0]])
def test_two_points_have_a_slope_and_no_p(y: list[float]) -> None:
    slope, p = slope_test(np.array([1.0, 3.0]), np.array(y), -1)
    assert slope == (y[1] - y[0]) / 2
    assert math.isnan(p)


def test_no_slope_where_nothing_varies_or_something_is_unknown() -> None:
    x, nan = np.arange(5.0), math.nan
    assert slope_test(x, np.full(5, 0.3), 1) == pytest.approx((0.0, nan), nan_ok=True)
    assert slope_test(x, np.array([1, 2, nan, 3, 4]), 1) == pytest.approx((nan, nan), nan_ok=True)
    assert slope_test(np.ones(5), x, 1) == pytest.approx((nan, nan), nan_ok=True)
    assert slope_test(x[:1], x[:1], 1) == pytest.approx((nan, nan), nan_ok=True)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 100, 301, 1000, 5000])
def test_what_guessing_gets_is_a_quantile_of_the_binomial_distribution(classes: int, n: int) -> None:
    for level in (0.01, 0.05, 0.5):
        most = guessed(n, classes, level)
        assert stats.binom.sf(most, n, 1 / classes) <= level + 1e-12
        assert stats.binom.sf(most - 1, n, 1 / classes) > level - 1e-12
    assert guessed(100, 10) == stats.binom.isf(0.01, 100, 0.1) == 18


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (3, 3), (7, 2), (2, 7), (40, 12), (300, 299)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    base, arm = np.zeros(700, bool), np.zeros(700, bool)
    arm[:gained], base[gained : gained + lost] = True, True
    assert mcnemar(base, arm)[2] == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-9)


def test_power_is_that_of_the_noncentral_distribution_even_where_a_miss_underflows() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        n, alpha, dz = int(rng.integers(2, 1001)), 10 ** rng.uniform(-5, -0.5), 10 ** rng.uniform(-3, 2)
        expected = stats.ncf.sf(stats.t.isf(alpha / 2, n - 1) ** 2, 1, n - 1, n * dz**2)
        assert achieved_power(dz, 1.0, n, alpha) == pytest.approx(expected, abs=1e-11)
    assert achieved_power(math.sqrt(1660 / 807), 1.0, 807, 0.0006) == 1.0


def test_the_calibrated_level_is_that_of_paired_t_tests() -> None:
    draws = np.random.default_rng(3).standard_normal((500, 8))
    p = np.min([stats.ttest_1samp(draws[:, :n], 0.0, axis=1).pvalue for n in (4, 8)], axis=0)
    assert calibrate((4, 8), 0.1, paths=500, seed=3) == pytest.approx(np.quantile(p, 0.1), **CLOSE)


def test_the_median_deviation_of_a_normal_variable() -> None:
    assert pytest.approx(stats.norm.ppf(0.75), **CLOSE) == NORMAL_QUARTILE


def test_points_in_any_order_become_curves_by_epoch_and_runs_are_kept_apart() -> None:
    points = [
        (1, "r1", "f", 2, 20, "val", "nll", 0.2),
        (1, "r0", "f", 1, 10, "train", "loss", 1.0),
        (1, "r1", "g", 1, 10, "val", "nll", 9.0),
        (1, "r1", "f", 1, 10, "val", "nll", 0.3),
        (1, "r1", "f", 1, 10, "val", "accuracy", math.nan),
    ]
    found = curves_by_run(pd.DataFrame(points, columns=CURVES.names[:8]))
    assert set(found) == {("r0", "f"), ("r1", "f"), ("r1", "g")}
    assert [v.tolist() for v in found["r1", "f"]["val", "nll"]] == [[1, 2], [0.3, 0.2]]
    assert [v.tolist() for v in found["r1", "g"]["val", "nll"]] == [[1], [9]]
    assert math.isnan(found["r1", "f"]["val", "accuracy"][1][0])
    assert curves_by_run(pd.DataFrame(points[:0], columns=CURVES.names[:8])) == {}


def test_a_report_does_not_import_what_takes_longer_than_its_work() -> None:
    slow = "{'scipy.stats', 'statsmodels', 'matplotlib'}"
    code = f"import sys, harness.report.pages.study; print(*{slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_study_of_a_thousand_runs_is_read_and_analysed_without_a_frame_for_each_run(counted) -> None:
    loaded, reading = counted(lambda: load(Path(__file__).parents[3] / "results" / "published" / "digits-all-tricks"))
    findings, finding = counted(loaded.findings)
    # 1050 (0.8 s in all). One selection from a frame, or one fit of scipy.stats, for each run adds 600.
    assert reading + finding < 1400 * len(loaded.data.runs)
    assert len(loaded.data.runs) > 1000
    assert findings
