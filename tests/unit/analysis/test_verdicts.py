from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.analysis.sentences import judge
from harness.analysis.types import Effect, Verdict
from harness.analysis.verdicts import Evidence, Setting, decide, outlying

SETTING = Setting(
    metric="test_accuracy",
    unit="points",
    higher_is_better=True,
    margin=0.5,
    alpha=0.05,
    scope="digits, 100 training images",
    family=1,
)
HELPS = Effect(
    arm="mixup",
    tricks=("mixup",),
    n=10,
    n_planned=10,
    seeds=tuple(range(10)),
    base=(90.0,) * 10,
    treated=(91.35,) * 10,
    mean_base=90.0,
    mean_arm=91.35,
    mean=1.35,
    low=0.33,
    high=2.37,
    sd=1.43,
    p=0.015,
    p_holm=0.015,
    p_permutation=0.02,
    p_wilcoxon=0.02,
    p_tost=0.95,
    dz=0.94,
    wins=8,
    ties=0,
    mde=1.43,
    more_seeds=56,
    correlation=0.5,
    pairing_gain=2.0,
    noise_share=math.nan,
    time=None,
    memory=None,
    n_diverged=0,
    n_failed=0,
    n_skipped=0,
    reasons=(),
    verdict=Verdict("no verdict", "", ""),
)
UNCLEAR = replace(HELPS, mean=0.31, low=-0.42, high=1.04, sd=1.02, p=0.36, p_holm=0.36, mde=1.02, more_seeds=26)
WHOLE = Evidence(n_ok=10)


def verdict(effect: Effect = HELPS, evidence: Evidence = WHOLE, **setting: Any) -> Verdict:
    return judge(replace(effect, p_tost_holm=effect.p_tost), evidence, replace(SETTING, **setting))


def test_a_clear_gain_helps_and_the_sentence_stands_alone() -> None:
    answer = verdict()
    assert answer.kind == "helps"
    assert answer.label == "helps +1.35 pt [0.33, 2.37], 8/10 seeds"
    assert answer.sentence == (
        "mixup helps on digits, 100 training images: +1.35 points [0.33, 2.37], better in 8 of 10 seeds, p = 0.015."
    )


def test_a_clear_loss_hurts_and_counts_the_seeds_that_got_worse() -> None:
    answer = verdict(replace(HELPS, mean=-1.35, low=-2.37, high=-0.33, wins=2, ties=1))
    assert answer.kind == "hurts"
    assert answer.label == "hurts -1.35 pt [-2.37, -0.33], 7/10 seeds"
    assert "worse in 7 of 10 seeds" in answer.sentence


def test_a_lower_loss_helps() -> None:
    nll = {"metric": "test_nll", "unit": "nats", "higher_is_better": False, "margin": math.nan}
    effect = replace(HELPS, mean=-0.0135, low=-0.0237, high=-0.0033, p_tost=math.nan, more_seeds=None)
    answer = verdict(effect, **nll)
    assert answer.kind == "helps"
    assert "-0.0135 nats of test_nll [-0.0237, -0.0033]" in answer.sentence
    assert verdict(replace(effect, mean=0.0135), **nll).kind == "hurts"
    assert "nan" not in verdict(replace(effect, p_holm=0.5), **nll).label


def test_dimensionless_metrics_are_named_without_a_unit() -> None:
    answer = verdict(metric="test_ece", unit="", higher_is_better=False, margin=math.nan)
    assert ": +1.35 test_ece [0.33, 2.37]" in answer.sentence


@pytest.mark.parametrize(("sign", "word"), [(1, "helps"), (-1, "hurts")])
def test_a_clear_effect_inside_the_margin_is_slight(sign: int, word: str) -> None:
    effect = replace(HELPS, mean=0.2 * sign, low=0.1 * sign, high=0.3 * sign, p_tost=0.001)
    answer = verdict(effect)
    assert answer.kind == f"{word} slightly"
    assert answer.label == f"{word} slightly, negligible (within ±0.5 pt)"


def test_a_narrow_interval_around_zero_is_equivalent() -> None:
    effect = replace(UNCLEAR, mean=-0.06, low=-0.23, high=0.11, p_holm=0.45, p_tost=0.0002)
    answer = verdict(effect)
    assert (answer.kind, answer.label) == ("equivalent", "equivalent within ±0.5 pt")
    assert answer.sentence == (
        "mixup is equivalent to the baseline within ±0.5 points on digits, 100 training images: "
        "-0.06 points [-0.23, 0.11] over 10 seeds, equivalence p < 0.001."
    )


def test_an_unclear_result_says_what_it_could_be_and_what_it_takes_to_know() -> None:
    answer = verdict(UNCLEAR)
    assert answer.kind == "undecided"
    assert answer.label == (
        "no detectable difference (could be -0.42 to +1.04; MDE 1 pt; about 26 more seeds for ±0.5 pt)"
    )
    assert "+0.31 points [-0.42, 1.04] over 10 seeds, p = 0.36" in answer.sentence
    assert answer.sentence.endswith("; it takes about 26 more seeds for ±0.5 pt.")


def test_a_scope_may_hold_a_percent_sign() -> None:
    noisy = "digits, 15% label noise"
    assert noisy in verdict(UNCLEAR, scope=noisy).sentence
    assert noisy in verdict(scope=noisy).sentence


def test_no_seeds_are_asked_for_when_there_are_enough_or_never_will_be() -> None:
    assert "more" not in verdict(replace(UNCLEAR, mde=0.3, more_seeds=None)).label
    assert "it takes" not in verdict(replace(UNCLEAR, mde=0.3, more_seeds=None)).sentence
    assert "more than 1000 seeds" in verdict(replace(UNCLEAR, mde=20.0, more_seeds=None)).label


def test_an_interval_that_excludes_zero_without_a_corrected_p_is_suggestive() -> None:
    answer = verdict(replace(HELPS, p_holm=0.06, more_for_effect=4), family=4)
    assert answer.kind == "suggestive"
    assert answer.label == (
        "suggestive +1.35 pt [0.33, 2.37] (Holm p = 0.06; about 4 more seeds would show an effect of that size)"
    )
    assert answer.sentence == (
        "mixup is suggestive on digits, 100 training images: +1.35 points [0.33, 2.37] over 10 seeds, an interval of "
        "this arm alone that excludes zero, but p = 0.06 after Holm's correction for 4 arms; about 4 more seeds would "
        "show an effect of that size."
    )
    assert verdict(replace(UNCLEAR, p_holm=1.0), family=4).kind == "undecided"
    small = verdict(replace(HELPS, mean=0.2, low=0.1, high=0.3, p_holm=0.06, p_tost=0.001), family=4)
    assert small.label.startswith("suggestive +0.20 pt [0.10, 0.30], negligible (within ±0.5 pt)")


@pytest.mark.parametrize(("sign", "kind"), [(1, "likely helps"), (-1, "likely hurts")])
def test_among_many_arms_q_below_the_level_is_likely(sign: int, kind: str) -> None:
    low, high = sorted((0.33 * sign, 2.37 * sign))
    effect = replace(HELPS, mean=1.35 * sign, low=low, high=high, wins=8 if sign > 0 else 2, p_holm=0.3, q=0.03)
    answer = verdict(effect, family=30)
    assert answer.kind == kind
    assert answer.label.startswith(kind)
    assert answer.label.endswith("8/10 seeds, q = 0.03")
    assert "q = 0.03 by Benjamini and Hochberg's method for 30 arms, p = 0.3 after Holm's correction" in answer.sentence
    assert verdict(replace(effect, p_holm=0.01), family=30).kind == kind.removeprefix("likely ")


def test_a_test_that_cannot_reach_its_level_decides_nothing_and_says_from_when_it_could() -> None:
    # Six signs have 64 patterns, so p is at least 2 / 64; nine arms ask for 0.05 / 9, which nine signs reach: 2 / 512.
    effect = replace(UNCLEAR, n=6, n_planned=6, p_holm=0.28, test="signed-rank", p_least=2 / 64)
    answer = verdict(effect, Evidence(n_ok=6, n_outlying=1), family=9)
    assert answer.label == "unstable (1 of 6 outlying): undecided (too few seeds for its test; p = 0.28)"
    assert (
        "the signed-rank test of 6 seeds cannot go below p = 0.031 and the first of 9 arms must be below 0.0056, so it "
        "hardly decides here; from 9 seeds on it can." in answer.sentence
    )
    clear = verdict(replace(effect, low=0.1), Evidence(n_ok=6, n_outlying=1), family=9)
    assert clear.kind == "suggestive"
    assert "too few seeds for its test" in clear.label


def test_a_metric_that_is_the_same_for_all_seeds_gives_no_verdict() -> None:
    top5 = replace(HELPS, mean=0.0, low=0.0, high=0.0, sd=0.0, p_holm=1.0, p_tost=0.03, wins=0, ties=10)
    answer = verdict(top5, replace(WHOLE, constant=True), metric="test_top5")
    assert answer.label == "no verdict (n=10; every seed gave the same number)"
    assert "each of 10 seeds gave the same test_top5" in answer.sentence


def test_below_five_seeds_there_is_no_verdict_however_clear() -> None:
    answer = verdict(replace(HELPS, n=3, n_planned=3, p=1e-9, p_holm=1e-9))
    assert (answer.kind, answer.label) == ("no verdict", "no verdict (n=3; need 5)")
    assert "so far +1.35 points [0.33, 2.37]" in answer.sentence
    assert verdict(replace(HELPS, n=5, n_planned=5)).kind == "helps"


def test_without_any_pair_the_sentence_has_no_numbers_that_are_unknown() -> None:
    empty = replace(HELPS, n=0, mean=math.nan, low=math.nan, high=math.nan)
    one = replace(HELPS, n=1, low=math.nan, high=math.nan)
    assert "nan" not in verdict(empty).sentence
    assert "so far +1.35 points." in verdict(one).sentence
    assert "from 1 seed (" in verdict(one).sentence


def test_missing_pairs_leave_no_verdict_and_say_why() -> None:
    answer = verdict(replace(HELPS, n=7), Evidence(n_ok=8, missing={"failed": 2, "baseline not run": 1}))
    assert answer.kind == "no verdict"
    assert answer.label == "no verdict (n=7; 3 of 10 seeds missing)"
    assert "3 of 10 seeds missing: 2 failed, 1 baseline not run" in answer.sentence


def test_identical_predictions_are_inactive_but_equal_accuracies_are_not() -> None:
    zero = replace(HELPS, mean=0.0, low=0.0, high=0.0, sd=0.0, p_holm=1.0, p_tost=0.0, wins=0, ties=10)
    assert verdict(zero, replace(WHOLE, identical=True)).label == "inactive - changed nothing"
    assert verdict(zero, WHOLE).kind == "equivalent"
    lost = replace(zero, n=9, n_diverged=1, lost=(1, 0, 0), p_tost=math.nan, p_wilcoxon=1.0)
    assert verdict(lost, replace(WHOLE, identical=True)).kind == "undecided"


def test_diverged_seeds_are_prefixed_and_the_signed_ranks_give_the_direction() -> None:
    effect = replace(
        HELPS, n=8, n_diverged=2, lost=(2, 0, 0), mean=-1.0, low=-4.0, high=2.0, wins=7, p_holm=0.02, p_lost=0.5
    )
    effect = replace(effect, test="signed-rank", p_least=2 / 1024)
    answer = verdict(effect, Evidence(n_ok=8, typical=1.2, direction=1.0))
    assert answer.unstable
    assert answer.label == "unstable (2 of 10 diverged): helps, 7/10 seeds"
    assert "typically +1.20 (mean -1.00 points [-4.00, 2.00] in the 8 of 10 pairs that finished)" in answer.sentence
    assert "better in 7 of 10 seeds, signed-rank p = 0.02, typically +1.20" in answer.sentence
    assert answer.sentence.endswith("It diverged in 2 of 10 seeds, the baseline in 0 (McNemar's exact p = 0.5).")
    often = verdict(replace(effect, p_lost=0.01), Evidence(n_ok=8, typical=1.2, direction=1.0))
    assert "It diverges more often than the baseline: in 2 of 10 seeds, the baseline in 0" in often.sentence


def test_an_arm_that_diverged_on_every_seed_hurts_without_a_number() -> None:
    nothing = {"mean": math.nan, "low": math.nan, "high": math.nan, "sd": math.nan, "p_tost": math.nan, "wins": 0}
    lost = replace(HELPS, n=0, n_diverged=10, lost=(10, 0, 0), p_holm=2 / 1024, p_lost=2 / 1024, **nothing)
    answer = verdict(replace(lost, test="signed-rank", p_least=2 / 1024), Evidence(direction=-1.0))
    assert answer.label == "unstable (10 of 10 diverged): hurts, 10/10 seeds"
    assert "worse in 10 of 10 seeds, signed-rank p = 0.002, no pair of runs finished." in answer.sentence
    assert "nan" not in answer.sentence


def test_four_pairs_are_too_few_however_they_ended() -> None:
    answer = verdict(replace(HELPS, n=2, n_planned=4, n_diverged=2, lost=(2, 0, 0)), Evidence(n_ok=2))
    assert answer.label == "unstable (2 of 4 diverged): no verdict (n=4; need 5)"


def test_outlying_seeds_and_a_diverging_baseline_are_named() -> None:
    evidence = replace(WHOLE, n_outlying=1, n_diverged_base=2)
    assert "unstable (2 of 10 of the baseline diverged, 1 of 10 outlying)" in verdict(evidence=evidence).label


def test_skipped_and_failed_arms_say_why() -> None:
    skipped = verdict(replace(HELPS, n=0), Evidence(skipped="needs a stem of 7x7"))
    assert (skipped.kind, skipped.sentence) == ("skipped", "mixup was skipped: needs a stem of 7x7.")
    failed = verdict(replace(HELPS, n=0, n_failed=10, reasons=("out of memory",)), Evidence())
    assert (failed.kind, failed.label) == ("failed", "failed")
    assert "out of memory" in failed.sentence


@pytest.mark.parametrize("p", [0.0, 0.049, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("p_tost", [0.0, 0.5, math.nan])
@pytest.mark.parametrize("n", [1, 5, 10])
def test_no_wording_overclaims(p: float, p_tost: float, n: int) -> None:
    answer = verdict(replace(HELPS, p_holm=p, p_tost=p_tost, n=n))
    for word in ("significant", "no effect", "works", "nan"):
        assert word not in answer.sentence + answer.label
    assert SETTING.scope in answer.sentence
    assert f"{n} seed" in answer.sentence


def test_rounding_never_shows_a_negative_zero() -> None:
    answer = verdict(replace(UNCLEAR, mean=-0.001, low=-0.004))
    assert "-0.00" not in answer.sentence + answer.label


def test_the_level_is_open_and_a_zero_mean_has_no_direction() -> None:
    rules = {"q": math.nan, "p_tost": 1.0, "clear": False, "alpha": 0.05, "higher_is_better": True}
    assert decide(mean=1.0, p=0.05, **rules) == "undecided"
    assert decide(mean=1.0, p=0.0499, **rules) == "helps"
    assert decide(mean=0.0, p=0.01, **rules) == "undecided"


def test_outliers_lie_eight_scaled_deviations_from_the_median_and_further_when_there_are_few() -> None:
    # Median 0 and median absolute deviation 1, which estimates a standard deviation of 1.4826; nine values
    # move the limit from 8 to 8 + 300 / 81 of them.
    inner = [-2.0, -1.0, -1.0, 0.0, 1.0, 1.0, 2.0]
    limit = (8 + 300 / 81) * 1.4826
    assert outlying(np.array([*inner, -2.0, limit * 1.01]), 0.5) == 1
    assert outlying(np.array([*inner, limit * 0.99, -limit * 0.99]), 0.5) == 0


def test_healthy_arms_are_hardly_ever_called_unstable() -> None:
    draw = np.random.default_rng(0)
    for n in (5, 10, 20):
        flagged = sum(outlying(draw.standard_normal(n), 0.5) > 0 for _ in range(2000))
        assert flagged <= 30


def test_an_image_more_or_less_is_no_outlier() -> None:
    # Of 50 images, one is 2 points. Half of one is the least deviation, so the limit is (8 + 12) / 0.6745 points.
    ties = np.array([0.0, 0.0, 0.0, 2.0, 28.0])
    assert outlying(ties, 0.5, grain=2.0) == 0
    assert outlying(np.array([0.0, 0.0, 0.0, 2.0, 30.0]), 0.5, grain=2.0) == 1
    assert outlying(ties, 0.5) == 2, "without a grain the deviation is zero and the margin decides"


def test_where_most_differences_are_equal_only_those_beyond_the_margin_are_outlying() -> None:
    assert outlying(np.array([0.0] * 8 + [0.07, 0.4]), 0.5) == 0
    assert outlying(np.array([0.0] * 9 + [-50.0]), 0.5) == 1
    assert outlying(np.array([0.0] * 9 + [-50.0]), math.nan) == 0
    assert outlying(np.array([]), 0.5) == 0
