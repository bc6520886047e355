from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from harness.analysis.compare import Comparison, compare, pool, rows, welch
from harness.analysis.types import Analysis, Effect, Verdict, VerdictKind
from harness.errors import UserError


def effect(differences: list[float], arm: str = "mixup", kind: VerdictKind = "helps", base: float = 90.0) -> Effect:
    d = np.asarray(differences)
    n, nan = len(d), math.nan
    half = stats.t.isf(0.025, n - 1) * d.std(ddof=1) / math.sqrt(n)
    return Effect(
        arm=arm, tricks=(arm,), n=n, n_planned=n, seeds=tuple(range(n)), base=(base,) * n,
        treated=tuple((base + d).tolist()), mean_base=base, mean_arm=base + d.mean(), mean=float(d.mean()),
        low=float(d.mean() - half), high=float(d.mean() + half), sd=float(d.std(ddof=1)), p=nan, p_holm=nan,
        p_permutation=nan, p_wilcoxon=nan, p_tost=nan, dz=nan, wins=0, ties=0, mde=nan, more_seeds=None,
        correlation=nan, pairing_gain=nan, noise_share=nan, time=None, memory=None, n_diverged=0, n_failed=0,
        n_skipped=0, reasons=(), verdict=Verdict(kind, kind, ""),
    )  # fmt: skip


def study(*effects: Effect, metric: str = "test_accuracy", unit: str = "points", alpha: float = 0.05) -> Analysis:
    return Analysis(metric, unit, True, 0.5, alpha, 5, 90.0, 1.0, 0, effects)


# Means 2 and 5 with standard errors 1 / sqrt(3) and 2 / sqrt(3): sd 1 and 2 over three pairs.
FIRST = effect([1.0, 2.0, 3.0])
SECOND = effect([3.0, 5.0, 7.0], base=80.0)


def both(first: Effect = FIRST, second: Effect = SECOND) -> Comparison:
    return compare({"laptop": study(first), "server": study(second)})


def test_the_difference_of_studies_has_welchs_interval_computed_by_hand() -> None:
    (difference,) = both().arms[0].differences
    assert (difference.first, difference.second) == ("laptop", "server")
    assert difference.mean == pytest.approx(3.0)
    error = math.sqrt(5 / 3)  # of variances 1/3 and 4/3
    freedom = (5 / 3) ** 2 / ((1 / 9) / 2 + (16 / 9) / 2)  # 2.94
    half = stats.t.isf(0.025, freedom) * error
    assert (difference.low, difference.high) == pytest.approx((3 - half, 3 + half))
    assert freedom == pytest.approx(50 / 17)


def test_welch_agrees_with_scipy() -> None:
    x, y = [0.3, 1.1, -0.4, 2.0], [2.2, 1.0, 3.1, 0.4, 2.6]
    expected = stats.ttest_ind(y, x, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert welch(effect(x), effect(y), 0.1) == pytest.approx(
        (np.mean(y) - np.mean(x), interval.low, interval.high, expected.pvalue)
    )


def test_effects_that_never_vary_differ_exactly() -> None:
    assert welch(effect([1.0, 1.0]), effect([1.0, 1.0]), 0.05) == (0, 0, 0, 1)
    assert welch(effect([1.0, 1.0]), effect([3.0, 3.0]), 0.05) == (2, 2, 2, 0)


def test_pooled_effects_and_heterogeneity_computed_by_hand() -> None:
    pooling = both().arms[0].pooling
    assert pooling is not None
    # Weights 3 and 3/4: the mean is (6 + 15/4) / (15/4) = 2.6 with variance 4/15.
    assert pooling.fixed.mean == pytest.approx(2.6)
    assert pooling.fixed.high - pooling.fixed.mean == pytest.approx(1.959964 * math.sqrt(4 / 15))
    # Q = 3 * 0.6^2 + 0.75 * 2.4^2 = 5.4 with 1 degree of freedom, I^2 = 4.4 / 5.4.
    assert pooling.q == pytest.approx(5.4)
    assert pooling.p == pytest.approx(math.erfc(math.sqrt(5.4 / 2)))
    assert pooling.i2 == pytest.approx(4.4 / 5.4)
    # The scale is 3.75 - (9 + 9/16) / 3.75 = 1.2, so tau^2 = 4.4 / 1.2; the variances become 4 and 5.
    assert pooling.tau2 == pytest.approx(11 / 3)
    assert pooling.random.mean == pytest.approx((2 / 4 + 5 / 5) / (1 / 4 + 1 / 5))
    assert pooling.random.high - pooling.random.mean == pytest.approx(1.959964 / math.sqrt(0.45))


def test_pooling_agrees_with_statsmodels_where_studies_differ() -> None:
    effects = [effect([0.1, 0.9, 0.4]), effect([3.0, 3.5, 2.9, 3.3]), effect([1.4, 2.0, 1.1])]
    pooling = pool(effects, 0.1)
    assert pooling is not None
    variances = np.array([e.sd**2 / e.n for e in effects])
    expected = combine_effects(np.array([e.mean for e in effects]), variances, method_re="dl")
    fixed, random = expected.conf_int(alpha=0.1)[:2]
    assert expected.tau2 > 0
    assert (pooling.q, pooling.i2, pooling.tau2) == pytest.approx((expected.q, expected.i2, expected.tau2))
    assert (pooling.fixed.low, pooling.fixed.high) == pytest.approx(tuple(fixed))
    assert (pooling.random.low, pooling.random.high) == pytest.approx(tuple(random))


def test_studies_that_agree_better_than_chance_have_no_heterogeneity_and_one_pooled_effect() -> None:
    pooling = both(second=effect([0.0, 2.0, 4.0], base=80.0)).arms[0].pooling
    assert pooling is not None
    assert (pooling.q, pooling.i2, pooling.tau2) == pytest.approx((0, 0, 0))
    assert pooling.random == pooling.fixed


def test_the_sign_flips_only_where_both_intervals_exclude_zero() -> None:
    up, down = effect([1.0, 1.1, 0.9]), effect([-1.0, -1.1, -0.9], base=80.0)
    loosely_down = effect([-3.0, 2.0, -1.0], base=80.0)
    assert both(up, down).arms[0].signs == "flip"
    assert both(up, loosely_down).arms[0].signs == "differ"
    assert both(loosely_down, effect([-1.0, -2.0, 0.0])).arms[0].signs == "agree"


def test_verdicts_are_the_same_when_their_kinds_are() -> None:
    assert both().arms[0].same_verdict
    assert not both(second=effect([3.0, 5.0, 7.0], kind="undecided", base=80.0)).arms[0].same_verdict


def test_studies_that_share_their_runs_are_not_two_pieces_of_evidence() -> None:
    more = effect([1.0, 2.0, 3.0, 4.0])  # the same first three seeds
    arm = both(second=more).arms[0]
    assert arm.shared == (("laptop", "server"),)
    assert arm.differences == ()
    assert arm.pooling is None
    assert "share their runs" in rows(both(second=more))[-1]["verdict"]


def test_other_metrics_are_shown_but_neither_subtracted_nor_pooled() -> None:
    losses = study(SECOND, metric="test_nll", unit="nats")
    comparison = compare({"a": study(FIRST), "b": losses})
    assert comparison.arms[0].differences == ()
    assert comparison.arms[0].pooling is None
    assert [row["effect"].split()[-1] for row in rows(comparison)[:2]] == ["points", "nats"]


@pytest.mark.parametrize("alone", [[1.0, 1.0, 1.0], [1.0]])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_effect_without_a_standard_error_is_not_pooled(alone: list[float]) -> None:
    assert both(second=effect(alone, base=80.0)).arms[0].pooling is None


def test_arms_of_one_study_are_listed_apart() -> None:
    ema = effect([1.0, 2.0, 3.0], arm="ema")
    comparison = compare({"a": study(FIRST, ema), "b": study(SECOND)})
    assert [arm.arm for arm in comparison.arms] == ["mixup"]
    assert comparison.single == (("ema", "a"),)


def test_three_studies_have_three_differences_and_the_strictest_level() -> None:
    third = effect([0.0, 1.0, -1.0], base=70.0)
    comparison = compare({"a": study(FIRST), "b": study(SECOND, alpha=0.01), "c": study(third)})
    assert comparison.alpha == 0.01
    pairs = [(d.first, d.second, d.mean) for d in comparison.arms[0].differences]
    assert pairs == [("a", "b", 3), ("a", "c", -2), ("b", "c", -5)]


def test_the_table_has_a_row_for_each_study_then_what_they_say_together() -> None:
    table = rows(both())
    assert [row["study"] for row in table] == ["laptop", "server", "fixed effect", "random effects", "together"]
    assert table[0]["difference"] == ""
    assert table[1]["difference"].startswith("+3 [")
    assert table[2]["effect"] == "+2.6 [1.59, 3.61] points"
    assert "I² = 81% (Q = 5.4, p = 0.02, 2 studies)" in table[4]["verdict"]
    assert {tuple(row) for row in table} == {("arm", "study", "n", "effect", "verdict", "difference")}


def test_one_study_and_studies_without_a_common_arm_are_refused() -> None:
    with pytest.raises(UserError, match="at least two studies, and this is 1"):
        compare({"a": study(FIRST)})
    with pytest.raises(UserError, match="a has mixup; b has ema"):
        compare({"a": study(FIRST), "b": study(effect([1.0, 2.0], arm="ema"))})
