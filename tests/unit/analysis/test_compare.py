from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from harness.analysis.compare import Comparison, compare, mean_effect, welch, welch_anova
from harness.analysis.types import Analysis, Effect, Verdict, VerdictKind
from harness.errors import UserError
from harness.report.load import load
from harness.report.text.comparison import rows


def effect(
    differences: list[float],
    arm: str = "mixup",
    kind: VerdictKind = "helps",
    base: float = 90.0,
    seeds: tuple[int, ...] | None = None,
) -> Effect:
    d = np.asarray(differences)
    n, nan = len(d), math.nan
    half = stats.t.isf(0.025, n - 1) * d.std(ddof=1) / math.sqrt(n)
    return Effect(
        arm=arm, tricks=(arm,), n=n, n_planned=n, seeds=seeds or tuple(range(n)), base=(base,) * n,
        treated=tuple((base + d).tolist()), mean_base=base, mean_arm=base + d.mean(), mean=float(d.mean()),
        low=float(d.mean() - half), high=float(d.mean() + half), sd=float(d.std(ddof=1)), p=nan, p_holm=nan,
        p_permutation=nan, p_wilcoxon=nan, p_tost=nan, dz=nan, wins=0, ties=0, mde=nan, more_seeds=None,
        correlation=nan, pairing_gain=nan, noise_share=nan, time=None, memory=None, n_diverged=0, n_failed=0,
        n_skipped=0, reasons=(), verdict=Verdict(kind, kind, ""),
    )  # fmt: skip


def study(
    *effects: Effect, metric: str = "test_accuracy", unit: str = "points", alpha: float = 0.05, blocks: str = ""
) -> Analysis:
    return Analysis(metric, unit, True, 0.5, alpha, 5, 90.0, 1.0, 0, effects, blocks=blocks)


# Means 2 and 5 with standard errors 1 / sqrt(3) and 2 / sqrt(3): sd 1 and 2 over three pairs.
FIRST = effect([1.0, 2.0, 3.0])
SECOND = effect([3.0, 5.0, 7.0], base=80.0)


def both(first: Effect = FIRST, second: Effect = SECOND, blocks: str = "") -> Comparison:
    return compare({"laptop": study(first, blocks=blocks), "server": study(second, blocks=blocks)})


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
    assert welch(x, y, 0.1) == pytest.approx((np.mean(y) - np.mean(x), interval.low, interval.high, expected.pvalue))


def test_samples_that_never_vary_have_the_p_of_the_permutation_test() -> None:
    assert welch([1.0, 1.0], [1.0, 1.0], 0.05) == (0, 0, 0, 1)
    # 2 of the 10 ways to split five values into two and three put all equal ones together.
    assert welch([1.0, 1.0], [3.0, 3.0, 3.0], 0.05) == (2, 2, 2, 0.2)


def test_the_same_blocks_are_subtracted_block_by_block() -> None:
    (difference,) = both(blocks="digits").arms[0].differences
    # 3 - 1, 5 - 2 and 7 - 3: 3 with standard error 1 / sqrt(3).
    half = stats.t.isf(0.025, 2) / math.sqrt(3)
    assert (difference.mean, difference.pairs) == (3, 3)
    assert (difference.low, difference.high) == pytest.approx((3 - half, 3 + half))
    assert difference.p == pytest.approx(stats.ttest_rel([3, 5, 7], [1, 2, 3]).pvalue)
    assert both(blocks="digits").arms[0].blocks == (("laptop", "server"),)


def test_blocks_are_paired_by_seed_and_only_those_of_both_count() -> None:
    later = effect([7.0, 3.0, 5.0, 100.0], base=80.0, seeds=(2, 0, 1, 9))
    (difference,) = both(second=later, blocks="digits").arms[0].differences
    assert (difference.mean, difference.pairs) == (3, 3)


@pytest.mark.parametrize("seeds", [(3, 4, 5), (2, 3, 4)])
def test_studies_that_share_few_blocks_or_none_are_independent(seeds: tuple[int, ...]) -> None:
    arm = both(second=effect([3.0, 5.0, 7.0], base=80.0, seeds=seeds), blocks="digits").arms[0]
    assert arm.blocks == ()
    assert arm.differences == both().arms[0].differences
    assert arm.differences[0].pairs == 0


@pytest.mark.parametrize(("first", "pairs"), [(1, 4), (2, 3), (3, 0)])
def test_blocks_are_paired_where_they_are_half_of_the_smaller_study(first: int, pairs: int) -> None:
    five = effect([1.0, 2.0, 3.0, 1.5, 0.5])
    more = effect([3.0, 5.0, 7.0, 4.0, 2.0, 6.0], base=80.0, seeds=tuple(range(first, first + 6)))
    assert both(five, more, blocks="digits").arms[0].differences[0].pairs == pairs


def test_the_same_seeds_of_other_images_are_independent() -> None:
    comparison = compare({"laptop": study(FIRST, blocks="a"), "server": study(SECOND, blocks="b")})
    assert comparison.arms[0].differences == both().arms[0].differences


def test_differences_that_are_all_equal_have_the_p_of_their_signs() -> None:
    shifted = effect([2.0, 3.0, 4.0], base=80.0)
    arm = both(second=shifted, blocks="digits").arms[0]
    assert (arm.differences[0].mean, arm.differences[0].p) == (1, 0.25)  # 2 of 8 assignments of signs
    assert arm.heterogeneity is None


def three(*blocks: str) -> Comparison:
    """Three studies with means 2, 5 and 0, standard deviations 1, 2 and 1, and three pairs each."""
    effects = FIRST, SECOND, effect([0.0, 1.0, -1.0], base=70.0)
    return compare({n: study(e, blocks=b) for n, e, b in zip("abc", effects, blocks or ("",) * 3, strict=True)})


def test_the_heterogeneity_of_two_studies_is_the_p_of_their_difference() -> None:
    for blocks in ("", "digits"):
        arm = both(blocks=blocks).arms[0]
        assert arm.heterogeneity is not None
        assert arm.heterogeneity.p == arm.differences[0].p


def test_welchs_analysis_of_variance_computed_by_hand() -> None:
    found = three().arms[0].heterogeneity
    assert found is not None
    # Weights 3, 3/4 and 3, mean (6 + 15/4) / (27/4) = 13/9: between is (3 * 25 + 3/4 * 32^2 + 3 * 13^2) / 81 / 2.
    # Shares 4/9, 1/9 and 4/9: spread is (25 + 64 + 25) / 81 / 2 = 114 / 162, so the divisor is 1 + 2/8 * 114/162.
    assert found.f == pytest.approx((1350 / 162) / (1 + 114 / 648))
    assert found.freedom == pytest.approx((2, 8 / (3 * 114 / 162)))
    assert found.p == pytest.approx(stats.f.sf(found.f, *found.freedom))


def test_welchs_analysis_of_variance_agrees_with_statsmodels() -> None:
    samples = [[0.1, 0.9, 0.4], [3.0, 3.5, 2.9, 3.3], [1.4, 2.0, 1.1], [0.2, 1.9, 5.0, 2.2, 1.0]]
    expected = anova_oneway(samples, use_var="unequal")
    found = welch_anova([effect(s) for s in samples])
    assert (found.f, *found.freedom, found.p) == pytest.approx((expected.statistic, *expected.df, expected.pvalue))


def test_studies_of_the_same_blocks_differ_where_a_pair_of_them_does_whatever_their_correlation() -> None:
    arm = three("digits", "digits", "other").arms[0]
    assert [d.pairs for d in arm.differences] == [3, 0, 0]
    assert arm.heterogeneity is not None
    assert arm.heterogeneity.p == pytest.approx(3 * min(d.p for d in arm.differences))
    assert math.isnan(arm.heterogeneity.f)


def test_the_mean_effect_computed_by_hand() -> None:
    found = three().arms[0].overall
    assert found is not None
    # Means 2, 5 and 0: 7/3 with variance 19/3; the mean squared standard error is (1/3 + 4/3 + 1/3) / 3 = 2/3.
    half = stats.t.isf(0.025, 2) * math.sqrt(19 / 9)
    assert (found.mean, found.low, found.high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))
    assert found.between == pytest.approx(math.sqrt(19 / 3 - 2 / 3))
    assert found.k == 3


def test_studies_that_agree_better_than_chance_have_nothing_between_them() -> None:
    assert mean_effect([FIRST, FIRST, effect([1.1, 2.1, 3.1])], 0.05).between == 0


def test_no_mean_of_two_studies_or_of_shared_blocks() -> None:
    assert both().arms[0].overall is None
    assert three("digits", "digits", "other").arms[0].overall is None


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
    assert (arm.heterogeneity, arm.overall) == (None, None)
    assert "share their runs" in rows(both(second=more))[-1]["verdict"]


def test_other_metrics_are_shown_but_neither_subtracted_nor_averaged() -> None:
    losses = study(SECOND, metric="test_nll", unit="nats")
    comparison = compare({"a": study(FIRST), "b": losses})
    assert comparison.arms[0].differences == ()
    assert comparison.arms[0].heterogeneity is None
    assert [row["effect"].split()[-1] for row in rows(comparison)[:2]] == ["points", "nats"]


@pytest.mark.parametrize("alone", [[1.0, 1.0, 1.0], [1.0]])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_effect_without_a_standard_error_is_not_tested(alone: list[float]) -> None:
    assert both(second=effect(alone, base=80.0)).arms[0].heterogeneity is None


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
    table = rows(three())
    assert [row["study"] for row in table] == ["a", "b", "c", "mean", "together"]
    assert table[0]["difference"] == ""
    assert table[1]["difference"].startswith("+3 [")
    assert table[1]["difference"].endswith(", Welch's t")
    assert table[3]["effect"] == "+2.33 [-3.92, 8.58] points"
    assert table[3]["verdict"] == "Hartung-Knapp, 3 studies; standard deviation between them 2.38"
    assert "equal: p = 0.052 (Welch's ANOVA, F(2, 3.8) = 7.09)" in table[4]["verdict"]
    assert {tuple(row) for row in table} == {("arm", "study", "n", "effect", "verdict", "difference")}


def test_the_table_says_over_how_many_blocks_a_difference_is_paired() -> None:
    table = rows(both(blocks="digits"))
    assert [row["study"] for row in table] == ["laptop", "server", "together"]
    assert table[1]["difference"] == "+3 [0.516, 5.48], p = 0.035, paired t over 3 blocks"
    assert table[2]["verdict"].endswith("equal: p = 0.035 (paired t over 3 blocks)")


def test_one_study_and_studies_without_a_common_arm_are_refused() -> None:
    with pytest.raises(UserError, match="at least two studies, and this is 1"):
        compare({"a": study(FIRST)})
    with pytest.raises(UserError, match="a has mixup; b has ema"):
        compare({"a": study(FIRST), "b": study(effect([1.0, 2.0], arm="ema"))})


def test_the_published_gain_of_an_untuned_baseline_is_not_certain_yet() -> None:
    names = "digits-noisy-all-tricks", "digits-noisy-untuned"
    published = Path(__file__).parents[3] / "results" / "published"
    comparison = compare({name: load(published / name).analysis for name in names})
    (d,) = next(arm for arm in comparison.arms if arm.arm == "label_smoothing").differences
    assert [round(v, 2) for v in (d.mean, d.low, d.high)] == [1.49, -0.11, 3.09]
    assert (round(d.p, 3), d.pairs) == (0.064, 10)
