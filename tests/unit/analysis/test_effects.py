from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon
from statsmodels.stats.multitest import multipletests

from harness import testing
from harness.analysis.effects import analyse
from harness.analysis.inference import (
    benjamini_hochberg,
    holm,
    sign_flip_test,
    signed_rank_test,
    signed_ranks,
    t_interval,
    t_test,
    tost,
)
from harness.analysis.types import Analysis, Effect
from harness.errors import UserError
from harness.store.schema import Manifest

SAME = [0.90, 0.91, 0.89, 0.92, 0.90]


def make_manifest(arms: dict[str, str | None], seeds: int = 5) -> Manifest:
    """A study of a baseline and `arms`, given as label -> reason for skipping or None."""
    plans = [testing.make_arm(label, 0 if skipped else seeds, skipped=skipped) for label, skipped in arms.items()]
    return testing.make_manifest(["baseline", *plans], seeds, fingerprint="here")


def row(label: str, seed: int, accuracy: float = 0.9, **changes: Any) -> dict[str, Any]:
    values = {"test_accuracy": accuracy, "fingerprint": "here", "seconds_train": 10.0}
    return testing.make_row(label, seed, **values | changes)


def frame(*groups: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([r for group in groups for r in group])


def arm(label: str, accuracies: list[float], **changes: Any) -> list[dict[str, Any]]:
    return [row(label, s, a, **changes) for s, a in enumerate(accuracies)]


def only(analysis: Analysis) -> Effect:
    (effect,) = analysis.effects
    return effect


BASE = arm("baseline", SAME)
# Differences of 1, 2, 3, 4 and 0 points: mean 2, sd sqrt(2.5), standard error sqrt(0.5), t = 2 sqrt(2).
MIXUP = arm("mixup", [0.91, 0.93, 0.92, 0.96, 0.90])
ONE = make_manifest({"mixup": None})


def test_an_effect_has_the_hand_computed_mean_interval_and_tests() -> None:
    effect = only(analyse(frame(BASE, MIXUP), ONE))
    assert effect.n == effect.n_planned == 5
    assert effect.mean_base == pytest.approx(90.4)
    assert effect.mean_arm == pytest.approx(92.4)
    assert effect.mean == pytest.approx(2.0)
    assert effect.sd == pytest.approx(math.sqrt(2.5))
    half = 2.7764451 * math.sqrt(0.5)  # the tabled 97.5 % quantile of t with 4 degrees of freedom
    assert (effect.low, effect.high) == pytest.approx((2 - half, 2 + half))
    # With 4 degrees of freedom F(t) = 1/2 + 3/8 s (1 - s^2 / 12), where s = t / sqrt(1 + t^2 / 4).
    s = math.sqrt(8) / math.sqrt(3)
    assert effect.p == pytest.approx(1 - 3 / 4 * s * (1 - s**2 / 12))
    assert effect.p_holm == effect.p
    assert effect.p_permutation == pytest.approx(4 / 32)  # both extremes, with either sign of the zero
    assert effect.p_wilcoxon == pytest.approx(2 / 16)
    assert effect.dz == pytest.approx(2 / math.sqrt(2.5))
    assert (effect.wins, effect.ties) == (4, 1)
    assert effect.differences == pytest.approx((1, 2, 3, 4, 0))
    assert effect.mde == pytest.approx(1.68 * math.sqrt(2.5), abs=0.01)


def test_pairing_gain_and_correlation_come_from_the_same_seeds() -> None:
    effect = only(analyse(frame(BASE, MIXUP), ONE))
    # Variances 1.3 and 5.3; the variance of the difference is their sum less twice the covariance.
    assert effect.pairing_gain == pytest.approx((1.3 + 5.3) / 2.5)
    assert effect.correlation == pytest.approx((1.3 + 5.3 - 2.5) / 2 / math.sqrt(1.3 * 5.3))


def test_lower_is_better_for_losses_which_keep_their_unit_and_have_no_margin() -> None:
    runs = frame(
        [row("baseline", s, test_nll=0.5 + s / 100) for s in range(5)],
        [row("mixup", s, test_nll=0.4 + s / 100 + (-1) ** s / 100) for s in range(5)],
    )
    analysis = analyse(runs, ONE, metric="test_nll")
    effect = only(analysis)
    assert (analysis.unit, analysis.higher_is_better) == ("nats", False)
    assert effect.mean == pytest.approx(-0.098)
    assert effect.wins == 5
    assert effect.verdict.kind == "helps"
    assert "nats of test_nll" in effect.verdict.sentence
    assert math.isnan(analysis.margin)
    assert math.isnan(effect.p_tost)
    assert effect.more_seeds is None


def test_an_unknown_metric_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"'test_acuracy'.*'test_accuracy'\? Known: "):
        analyse(frame(BASE, MIXUP), ONE, metric="test_acuracy")


def test_a_study_without_a_baseline_is_refused() -> None:
    with pytest.raises(UserError, match="no baseline"):
        analyse(frame(MIXUP), ONE.model_copy(update={"arms": ONE.arms[1:]}))


def test_rows_of_other_studies_and_fingerprints_do_not_count() -> None:
    others = [row("mixup", s, 0.1, fingerprint="elsewhere") for s in range(5)]
    foreign = [row("cutmix", s, 0.1) for s in range(5)]
    analysis = analyse(frame(others, foreign, BASE, MIXUP), ONE)
    assert only(analysis).mean == pytest.approx(2.0)
    detail = next(text for what, _, text in analysis.checks if what == "one fingerprint")
    assert detail == "10 runs of here; 5 rows of other fingerprints left out"


def test_rows_of_other_images_or_code_do_not_count() -> None:
    arms = tuple(plan.model_copy(update={"identity": "mine"}) for plan in ONE.arms)
    own = [r | {"identity": "mine"} for r in (*BASE, *MIXUP)]
    later = {"finished": pd.Timestamp("2026-01-01", tz="UTC"), "test_accuracy": 0.1}
    others = [r | later | {"identity": identity} for r in MIXUP for identity in ("theirs", None)]
    assert only(analyse(frame(own, others), ONE.model_copy(update={"arms": arms}))).mean == pytest.approx(2.0)
    unnamed = [r | later | {"identity": "theirs"} for r in MIXUP]
    assert only(analyse(frame(BASE, MIXUP, unnamed), ONE)).mean == pytest.approx(2.0)


def test_runs_that_another_machine_alone_has_are_named_with_what_differs_and_what_to_do() -> None:
    facts = {"fingerprint_json": '{"device": "cpu", "torch": "2.14"}'}
    there = {"fingerprint": "elsewhere", "fingerprint_json": '{"device": "cpu", "torch": "2.15"}'}
    rows = [r | facts for r in (*BASE, *MIXUP[:3])]
    analysis = analyse(frame(rows, [r | there for r in (*MIXUP[2:], BASE[0])]), ONE)
    state, detail = next((state, text) for what, state, text in analysis.checks if what == "one fingerprint")
    assert state == "fails"
    assert detail == (
        "8 runs of here; 4 rows of other fingerprints left out, among them the only ones of mixup, seeds 3, 4 "
        "(torch 2.15, not 2.14); the study's command trains those here"
    )


def test_of_repeated_rows_a_finished_one_counts_before_a_later_failure() -> None:
    late = pd.Timestamp("2026-01-01", tz="UTC")
    again = [row("mixup", 0, math.nan, status="failed", reason="killed", finished=late)]
    effect = only(analyse(frame(BASE, MIXUP, again, MIXUP[:1]), ONE))
    assert (effect.n, effect.n_failed) == (5, 0)
    assert effect.mean == pytest.approx(2.0)


def test_no_differences_give_p_one_and_an_empty_interval_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = only(analyse(frame(BASE, arm("mixup", SAME)), ONE))
    assert (effect.mean, effect.low, effect.high, effect.sd, effect.dz, effect.mde) == (0, 0, 0, 0, 0, 0)
    assert (effect.p, effect.p_holm, effect.p_permutation, effect.p_wilcoxon, effect.p_tost) == (
        1,
        1,
        1,
        1,
        1 / 32,  # of the signs of five differences, all below the margin
    )
    assert (effect.wins, effect.ties, effect.more_seeds) == (0, 5, None)
    assert math.isnan(effect.pairing_gain)
    assert effect.verdict.kind == "equivalent"  # the digests differ


def test_equal_differences_have_the_exact_p_of_their_signs_and_no_interval() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = only(analyse(frame(BASE, arm("mixup", [0.93, 0.94, 0.92, 0.95, 0.93])), ONE))
    assert effect.mean == pytest.approx(3)
    assert math.isnan(effect.low)
    assert math.isnan(effect.high)
    assert (effect.sd, effect.p, effect.p_holm, effect.p_tost, effect.dz) == (0, 2 / 32, 2 / 32, 1, math.inf)
    assert (effect.test, effect.p_least) == ("sign-flip", 2 / 32)
    assert effect.verdict.kind == "undecided"
    assert "+3.00 points in every seed" in effect.verdict.sentence
    assert "from 6 seeds on it can" in effect.verdict.sentence


def test_six_equal_differences_help() -> None:
    manifest = make_manifest({"mixup": None}, seeds=6)
    base = [*SAME, 0.91]
    effect = only(analyse(frame(arm("baseline", base), arm("mixup", [a + 0.03 for a in base])), manifest))
    assert (effect.p_holm, effect.verdict.kind) == (2 / 64, "helps")
    assert effect.verdict.label == "helps +3.00 pt, 6/6 seeds"


def test_a_metric_with_one_value_cannot_tell() -> None:
    effect = only(analyse(frame(arm("baseline", [1.0] * 5), arm("mixup", [1.0] * 5)), ONE))
    assert effect.verdict.label == "no verdict (n=5; every seed gave the same number)"


def test_equal_digests_and_results_are_inactive() -> None:
    same = [r | {"test_digest": f"baseline-{r['seed']}"} for r in arm("mixup", SAME)]
    assert only(analyse(frame(BASE, same), ONE)).verdict.kind == "inactive"


def test_missing_digests_are_not_taken_for_identical_predictions() -> None:
    runs = frame(BASE, arm("mixup", SAME)).assign(test_digest="")
    assert only(analyse(runs, ONE)).verdict.kind == "equivalent"


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_pairs_give_nan_without_warnings(n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = only(analyse(frame(BASE, MIXUP[:n], [row("other", 0)]), ONE))
    assert effect.n == n
    assert all(math.isnan(v) for v in (effect.low, effect.sd, effect.p, effect.p_holm, effect.mde))
    assert effect.verdict.label == f"no verdict (n={n}; need 5)"


def test_p_values_of_a_family_are_corrected_together_and_both_are_kept() -> None:
    manifest = make_manifest({"mixup": None, "ema": None, "sam": "needs another optimizer"})
    ema = arm("ema", [0.92, 0.91, 0.90, 0.94, 0.91])
    analysis = analyse(frame(BASE, MIXUP, ema), manifest)
    by_arm = {e.arm: e for e in analysis.effects}
    low, high = sorted([by_arm["mixup"].p, by_arm["ema"].p])
    assert sorted([by_arm["mixup"].p_holm, by_arm["ema"].p_holm]) == pytest.approx([2 * low, max(2 * low, high)])
    assert by_arm["mixup"].mde > only(analyse(frame(BASE, MIXUP), ONE)).mde
    assert by_arm["sam"].verdict.kind == "skipped"
    assert "needs another optimizer" in by_arm["sam"].verdict.sentence
    assert math.isnan(by_arm["sam"].p_holm)


def diverging(arm_lost: int, base_lost: int, n: int = 10, gain: float = 0.01) -> Effect:
    """Ten seeds on which the arm gains about a point, but its first runs and the baseline's last ones diverge."""
    lost = {"status": "diverged", "reason": "loss is NaN"}
    base = [row("baseline", s, 0.90 + s / 1000, **(lost if s >= n - base_lost else {})) for s in range(n)]
    mixup = [row("mixup", s, 0.90 + gain + s / 900, **(lost if s < arm_lost else {})) for s in range(n)]
    return only(analyse(frame(base, mixup), make_manifest({"mixup": None}, seeds=n)))


def test_a_diverged_run_ranks_below_all_that_finished_and_every_pair_is_tested() -> None:
    effect = diverging(4, 0)
    assert (effect.n, effect.n_judged, effect.n_diverged, effect.reasons) == (6, 10, 4, ("loss is NaN",))
    # The four share the mean of the ranks 7 to 10: against them stand 1 + ... + 6 = 21 of 55. At most 21 on one side
    # have 313 of 1024 sign patterns with these ties.
    assert effect.p_holm == effect.p_wilcoxon == pytest.approx(2 * patterns_at_most(21, [1, 2, 3, 4, 5, 6, *[8.5] * 4]))
    assert (effect.wins, effect.test) == (6, "signed-rank")
    assert effect.verdict.kind == "suggestive", "the finished pairs alone gain clearly"
    assert "in the 6 of 10 that finished (all 10 point to worse, p = " in effect.verdict.label
    assert "in the 6 of 10 pairs that finished" in effect.verdict.sentence
    assert all(math.isnan(v) for v in (effect.p, effect.p_permutation, effect.p_tost, effect.dz, effect.e_value))
    assert not effect.clear


def test_losses_by_divergence_have_no_gain_in_their_headline() -> None:
    effect = diverging(14, 0, n=20, gain=0.03)
    assert effect.verdict.label == "unstable (14 of 20 diverged): hurts, 14/20 seeds"
    assert "hurts on " in effect.verdict.sentence
    assert "in the 6 of 20 pairs that finished" in effect.verdict.sentence


@pytest.mark.parametrize(("arm_lost", "base_lost"), [(4, 5), (10, 10), (9, 0), (0, 9), (3, 0)])
def test_no_word_is_nan_however_few_pairs_finished(arm_lost: int, base_lost: int) -> None:
    for gain in (0.03, 0.0):
        base = [r | {"status": "diverged"} if s >= 10 - base_lost else r for s, r in enumerate(arm("baseline", TEN))]
        same = arm("mixup", [a + gain for a in TEN])
        lost = [r | {"status": "diverged"} if s < arm_lost else r for s, r in enumerate(same)]
        verdict = only(analyse(frame(base, lost), make_manifest({"mixup": None}, seeds=10))).verdict
        assert "nan" not in verdict.sentence + verdict.label
        assert "p = 2 " not in verdict.sentence


TEN = [0.90, 0.91, 0.89, 0.92, 0.90, 0.93, 0.88, 0.91, 0.90, 0.94]


def test_an_arm_that_always_diverges_among_many_is_no_undecided_one() -> None:
    lost = [row("mixup", s, math.nan, status="diverged", reason="loss is NaN") for s in range(10)]
    others = {f"t{i}": arm(f"t{i}", [a + 0.001 * ((s + i) % 3) for s, a in enumerate(TEN)]) for i in range(29)}
    manifest = make_manifest(dict.fromkeys(["mixup", *others]), seeds=10)
    effect = analyse(frame(arm("baseline", TEN), lost, *others.values()), manifest).effects[0]
    assert effect.p_holm > 0.05
    assert effect.verdict.kind in ("suggestive", "likely hurts")
    assert "It diverge" in effect.verdict.sentence


@pytest.mark.parametrize("images", [1300, 1400, 997])
def test_equal_gains_of_whole_images_are_equal_whatever_their_rounding(images: int) -> None:
    draw = np.random.default_rng(images)
    for _ in range(40):
        right = draw.integers(images // 2, images - 50, 5)
        base, mixup = arm("baseline", list(right / images)), arm("mixup", list((right + 43) / images))
        effect = only(analyse(frame(base, mixup), ONE))
        assert (effect.sd, effect.p, effect.test) == (0.0, 2 / 32, "sign-flip")
        assert math.isnan(effect.low)


def test_a_collapse_on_a_saturated_task_is_an_outlier() -> None:
    assert only(analyse(frame(arm("baseline", [1.0] * 5), arm("mixup", [1, 1, 1, 1, 0.1])), ONE)).verdict.unstable


def test_an_arm_that_does_not_use_its_seed_has_no_verdict() -> None:
    once = [r | {"test_digest": "same"} for r in arm("mixup", [0.97] * 5)]
    analysis = analyse(frame(BASE, once), ONE)
    assert only(analysis).verdict.label == "no verdict (n=5; every seed gave the same number)"
    found = next(c for c in analysis.checks if c[0].startswith("every seed"))
    assert found == ("every seed gives runs of its own", "fails", "1 different of 5 runs of mixup")


def test_a_seed_that_is_named_twice_is_one_block() -> None:
    manifest = make_manifest({"mixup": None}, seeds=3).model_copy(update={"seeds": (0, 0, 1, 1, 2, 2)})
    assert only(analyse(frame(BASE[:3], MIXUP[:3]), manifest)).n == 3


def patterns_at_most(most: float, ranks: list[float]) -> float:
    """The share of all patterns of signs whose positive ranks sum to at most so much, by counting."""
    sums = [sum(r for i, r in enumerate(ranks) if k >> i & 1) for k in range(2 ** len(ranks))]
    return sum(s <= most for s in sums) / len(sums)


def test_a_baseline_that_diverges_ranks_highest_and_both_are_a_tie() -> None:
    helped = diverging(0, 3)
    assert (helped.wins, helped.p_holm, helped.verdict.kind) == (10, 2 / 1024, "helps")
    assert helped.lost == (0, 3, 0)
    both = diverging(10, 10)
    assert (both.n, both.n_judged, both.ties, both.p_holm) == (0, 10, 10, 1.0)
    assert both.verdict.kind == "undecided"


def test_an_arm_that_always_diverges_hurts_and_diverges_more_often() -> None:
    effect = diverging(10, 0)
    assert (effect.n, effect.p_holm, effect.p_lost) == (0, 2 / 1024, 2 / 1024)
    assert effect.verdict.label == "unstable (10 of 10 diverged): hurts, 10/10 seeds"
    assert "It diverges more often than the baseline: in 10 of 10 seeds, the baseline in 0" in effect.verdict.sentence
    five = diverging(5, 0)
    assert five.p_lost == 2 / 32  # McNemar: five one way and none the other
    assert "It diverged in 5 of 10 seeds, the baseline in 0 (McNemar's exact p = 0.062)" in five.verdict.sentence


def test_an_arm_that_diverged_is_never_equivalent() -> None:
    assert diverging(0, 0, gain=-0.0005).verdict.kind == "equivalent"
    assert {diverging(2, 0, gain=-0.0005).verdict.kind, diverging(0, 2, gain=-0.0005).verdict.kind} == {"undecided"}


def test_a_run_that_diverged_beside_a_missing_one_is_a_gap() -> None:
    lost = [row("mixup", 4, math.nan, status="diverged", reason="loss is NaN")]
    effect = only(analyse(frame(BASE[:4], MIXUP[:4], lost), make_manifest({"mixup": None})))
    assert "1 of 5 seeds missing: 1 baseline not run" in effect.verdict.sentence


def test_one_outlier_does_not_hand_the_decision_to_a_test_that_cannot_decide() -> None:
    # All ten lose some 78 points but one, which loses 40. Ten signs reach 2 / 1024, and fifty arms ask for 0.001.
    losses = [0.78 + 0.001 * s for s in range(9)] + [0.40]
    base = arm("baseline", [0.90 + 0.001 * (s % 3) for s in range(10)])
    collapsed = arm("mixup", [r["test_accuracy"] - loss for r, loss in zip(base, losses, strict=True)])
    others = {f"trick{i}": arm(f"trick{i}", [0.9 + 0.001 * (s % (i % 3 + 2)) for s in range(10)]) for i in range(49)}
    manifest = make_manifest(dict.fromkeys(["mixup", *others]), seeds=10)
    effect = analyse(frame(base, collapsed, *others.values()), manifest).effects[0]
    assert (effect.verdict.unstable, effect.test, effect.verdict.kind) == (True, "t", "hurts")
    alone = only(analyse(frame(base, collapsed), make_manifest({"mixup": None}, seeds=10)))
    assert (alone.test, alone.p_holm, alone.verdict.kind) == ("signed-rank", 2 / 1024, "hurts")


def test_intervals_for_all_arms_are_bonferronis_and_equivalence_is_corrected() -> None:
    manifest = make_manifest({"mixup": None, "ema": None})
    ema = arm("ema", [0.901, 0.910, 0.889, 0.921, 0.900])
    by_arm = {e.arm: e for e in analyse(frame(BASE, MIXUP, ema), manifest).effects}
    half = 3.4954 * math.sqrt(0.5)  # the tabled 98.75 % quantile of t with 4 degrees of freedom
    assert (by_arm["mixup"].low_all, by_arm["mixup"].high_all) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert by_arm["ema"].p_tost_holm == pytest.approx(2 * by_arm["ema"].p_tost)
    assert math.isnan(by_arm["ema"].q), "two arms are few"


def test_failed_seeds_leave_no_verdict_and_name_the_gap() -> None:
    runs = frame(BASE, MIXUP[:4], [row("mixup", 4, math.nan, status="failed", reason="out of memory")])
    effect = only(analyse(runs, make_manifest({"mixup": None})))
    assert effect.n_failed == 1
    assert effect.verdict.kind == "no verdict"
    assert "1 failed" in effect.verdict.sentence


def test_an_infinite_loss_is_a_divergence_and_an_unmeasured_one_is_a_gap() -> None:
    runs = frame(
        [row("baseline", s, test_nll=0.5) for s in range(8)],
        [row("mixup", s, test_nll=0.4) for s in range(6)],
        [row("mixup", 6, test_nll=math.inf), row("mixup", 7, test_nll=None)],
    )
    effect = only(analyse(runs, make_manifest({"mixup": None}, seeds=8), metric="test_nll"))
    assert (effect.n, effect.n_diverged) == (6, 1)
    assert "1 of 8 seeds missing: 1 not measured" in effect.verdict.sentence


def test_an_arm_whose_runs_all_failed_is_failed_with_the_reason_once() -> None:
    lost = [row("mixup", s, math.nan, status="failed", reason="out of memory") for s in range(5)]
    effect = only(analyse(frame(BASE, lost), ONE))
    assert effect.reasons == ("out of memory",)
    assert effect.verdict.kind == "failed"
    assert "out of memory" in effect.verdict.sentence


def test_time_is_cpu_time_on_a_cpu_and_includes_set_up_and_the_runs_that_the_arm_needs() -> None:
    beside = {"seconds_other": 7.0, "cpu_seconds_other": 0.75, "seconds_setup": 5.0, "cpu_seconds_setup": 0.25}
    mixup = [
        r | beside | {"cpu_seconds_train": 1.0 if r["seed"] % 2 else 3.0, "peak_memory_bytes": 200} for r in MIXUP[:4]
    ]
    effect = only(analyse(frame(BASE[:4], mixup), make_manifest({"mixup": None}, seeds=4)))
    assert effect.time is not None
    # Ratios 4, 2, 4, 2: powers of two 1.5 ± 3.182446 × 0.57735 / 2, with the tabled quantile of t.
    assert effect.time.value == pytest.approx(2**1.5)
    assert effect.time.low == pytest.approx(2 ** (1.5 - 3.182446 * 0.57735 / 2), rel=1e-5)
    assert effect.time.n == 4
    assert effect.memory is not None
    assert (effect.memory.value, effect.memory.low, effect.memory.high) == pytest.approx((2, 2, 2))


def test_set_up_and_stages_of_the_baseline_count_too() -> None:
    base = [r | {"cpu_seconds_setup": 1.0, "cpu_seconds_other": 2.0} for r in BASE]
    effect = only(analyse(frame(base, [r | {"cpu_seconds_train": 8.0} for r in MIXUP]), ONE))
    assert effect.time is not None
    assert effect.time.value == pytest.approx(8 / (1 + 1 + 2))


def test_rows_that_know_the_wall_time_of_other_runs_alone_are_compared_on_that_clock() -> None:
    """Earlier versions stored no CPU seconds of a teacher, and adding its wall seconds to them mixes two clocks."""
    old = {"cpu_seconds_train": 100.0, "seconds_other": 2.0, "cpu_seconds_other": None, "seconds_setup": None}
    effect = only(analyse(frame(BASE, [r | old for r in MIXUP]), ONE))
    assert effect.time is not None
    assert effect.time.value == pytest.approx((10 + 2) / 10)


def test_time_is_wall_time_on_an_accelerator_and_none_where_nothing_was_recorded() -> None:
    runs = frame(BASE, [r | {"seconds_train": 15.0} for r in MIXUP]).assign(device="cuda: H100", peak_memory_bytes=None)
    effect = only(analyse(runs, ONE))
    assert effect.time is not None
    assert effect.time.value == pytest.approx(1.5)
    assert effect.memory is None


def test_noise_share_is_the_variance_of_the_test_images_over_that_of_the_seeds() -> None:
    # Of 100 images the arm gains 2 + k and loses 2: discordance variance (4 + k) / 100 - (k / 100)^2.
    correct, noise = {}, []
    for s, k in enumerate([1, 2, 3, 4, 0]):
        base, treated = np.zeros(100, bool), np.zeros(100, bool)
        base[:2] = True
        treated[2 : 4 + k] = True
        correct[f"baseline-{s}"], correct[f"mixup-{s}"] = base, treated
        noise.append(((4 + k) / 100 - (k / 100) ** 2) / 100 * 100**2)
    share = only(analyse(frame(BASE, MIXUP), ONE, correct=correct)).noise_share
    assert share == pytest.approx(min(1.0, np.mean(noise) / 2.5))
    effect = only(analyse(frame(BASE, MIXUP), ONE, correct=correct))
    assert effect.image_error == pytest.approx(np.sqrt(np.sum(noise)) / 5)
    assert [image[:3] for image in effect.images] == [(s, 2 + k, 2) for s, k in enumerate([1, 2, 3, 4, 0])]
    assert effect.images[4][3] == 1.0, "two images each way"
    large = {k: np.repeat(v, 100) for k, v in correct.items()}
    share = only(analyse(frame(BASE, MIXUP), ONE, correct=large)).noise_share
    assert share == pytest.approx(np.mean(noise) / 100 / 2.5)
    assert math.isnan(only(analyse(frame(BASE, MIXUP), ONE)).noise_share)


def test_the_baseline_is_summarised_over_its_own_finished_runs() -> None:
    lost = [row("baseline", 4, math.nan, status="failed", reason="killed")]
    analysis = analyse(frame(BASE[:4], lost, MIXUP), ONE)
    assert (analysis.baseline_n, analysis.baseline_failed) == (4, 1)
    assert analysis.baseline_mean == pytest.approx(90.5)
    assert analysis.baseline_sd == pytest.approx(math.sqrt(5 / 3))
    assert "1 baseline failed" in only(analysis).verdict.sentence


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, set()),
        ({"status": "diverged"}, set()),
        ({"status": "skipped"}, {"paired seeds complete"}),
        ({"git_dirty": True}, {"one clean git commit"}),
        ({"git_commit": "other"}, {"one clean git commit"}),
        ({"versions": '{"torch": "1"}'}, {"equal package versions"}),
        ({"data_hash": "other"}, {"one data set"}),
        ({"status": "failed"}, {"paired seeds complete"}),
        ({"fingerprint": "elsewhere"}, {"paired seeds complete", "one fingerprint"}),
    ],
)
def test_checks_name_what_differs_in_one_row(changes: dict[str, Any], broken: set[str]) -> None:
    analysis = analyse(frame(BASE, MIXUP[:4], [MIXUP[4] | changes]), ONE)
    assert {what for what, state, _ in analysis.checks if state == "fails"} == broken


def test_images_in_two_splits_fail_a_check_and_are_told() -> None:
    leak = "The same images lie in more than one place: 2 in train and in test. Remove the copies."
    manifest = ONE.model_copy(update={"leak": leak})
    assert ("no image in two splits", "fails", leak) in analyse(frame(BASE, MIXUP), manifest).checks
    assert leak in manifest.sentences
    assert "no image in two splits" not in [what for what, *_ in analyse(frame(BASE, MIXUP), ONE).checks]


def test_what_the_rows_do_not_tell_is_not_known() -> None:
    silent = {"git_commit": None, "versions": None, "data_hash": None, "test_digest": None}
    states = {what: state for what, state, _ in analyse(frame(BASE, MIXUP).assign(**silent), ONE).checks}
    assert {what for what, state in states.items() if state == "not known"} == {
        "one clean git commit",
        "equal package versions",
        "one data set",
        "every seed gives runs of its own",
        "looked at once",
    }
    nothing = analyse(frame(BASE[:1]).iloc[:0], make_manifest({"mixup": "needs a stem"})).checks
    assert {state for _, state, _ in nothing} == {"not known"}


@pytest.mark.parametrize(
    ("looks", "level", "state"),
    [((), None, "not known"), ((3, 10), None, "holds"), ((5, 10), None, "fails"), ((5, 10), 0.05, "holds")],
)
def test_looks_that_were_not_planned_fail_a_check(looks: tuple[int, ...], level: float | None, state: str) -> None:
    manifest = ONE.model_copy(update={"looks": looks, "level": level})
    assert ("looked at once", state) in [c[:2] for c in analyse(frame(BASE, MIXUP), manifest).checks]


def test_an_arm_that_cannot_run_leaves_no_gap() -> None:
    skipped = [row("mixup", s, math.nan, status="skipped", reason="needs a stem") for s in range(5)]
    ema = arm("ema", SAME)
    for manifest in (
        make_manifest({"mixup": "needs a stem", "ema": None}),
        make_manifest({"mixup": None, "ema": None}),
    ):
        checks = {what: state for what, state, _ in analyse(frame(BASE, skipped, ema), manifest).checks}
        assert checks["paired seeds complete"] == "holds"


def test_a_baseline_whose_seeds_all_give_one_run_is_found_out() -> None:
    runs = frame([r | {"test_digest": "same"} for r in BASE], MIXUP)
    state, detail = next((s, text) for what, s, text in analyse(runs, ONE).checks if what.startswith("every seed"))
    assert (state, detail) == ("fails", "1 different of 5 runs of the baseline")


def test_helpers_work_along_the_last_axis() -> None:
    x = np.array([[1.0, 2, 3, 4, 0], [0, 0, 0, 0, 0]])
    mean, low, high = t_interval(x)
    assert mean.tolist() == [2, 0]
    assert high[0] - low[0] == pytest.approx(2 * 2.7764451 * math.sqrt(0.5))
    assert t_test(x)[1] == 1
    # Standardised distances to the margins ±4: 6 / sqrt(.5) above and 2 / sqrt(.5) below; the nearer decides.
    assert tost(x, 4.0)[0] == pytest.approx(t_test(x)[0] / 2)
    assert tost(x, 4.0)[1] == 1 / 32


def test_sign_flips_are_exact_below_fifteen_pairs_and_repeatable_above() -> None:
    assert sign_flip_test(np.ones(14)) == pytest.approx(2 / 2**14)
    x = np.random.default_rng(0).normal(0.4, 1, 20)
    assert sign_flip_test(x) == sign_flip_test(x)
    assert sign_flip_test(x) == pytest.approx(float(t_test(x)), abs=0.02)


def test_signed_ranks_drop_zeros_and_share_ties() -> None:
    assert signed_ranks([0, 2, -2, 5, -1]).tolist() == [2.5, -2.5, 4, -1]


def test_holm_steps_down_and_ignores_unknown_values() -> None:
    p = [0.01, math.nan, 0.04, 0.03]
    assert holm(p).tolist() == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.02]).tolist() == [0.02]
    assert holm([]).tolist() == []
    assert holm([math.nan, math.nan]).tolist() == pytest.approx([math.nan, math.nan], nan_ok=True)


def test_holm_agrees_with_statsmodels_along_the_last_axis() -> None:
    p = np.random.default_rng(0).uniform(0, 0.4, (3, 7))
    expected = [multipletests(row, method="holm")[1] for row in p]
    np.testing.assert_allclose(holm(p), expected)


def test_benjamini_and_hochberg_agree_with_statsmodels_and_ignore_unknown_values() -> None:
    p = np.random.default_rng(0).uniform(0, 0.4, (3, 7))
    expected = [multipletests(row, method="fdr_bh")[1] for row in p]
    np.testing.assert_allclose(benjamini_hochberg(p), expected)
    q = benjamini_hochberg([0.01, math.nan, 0.04, 0.03]).tolist()
    assert q == pytest.approx([0.03, math.nan, 0.04, 0.04], nan_ok=True)


def test_the_signed_rank_test_agrees_with_scipy_and_is_exact_with_ties() -> None:
    draw = np.random.default_rng(0)
    for n in (6, 10, 20, 40):
        x = draw.normal(0.3, 1, n)
        assert signed_rank_test(x) == pytest.approx(wilcoxon(x, method="exact").pvalue)
    assert signed_rank_test([1, 1, 1, -1, 2, 2]) == pytest.approx(2 * patterns_at_most(2.5, [2.5] * 4 + [5.5] * 2))
    assert signed_rank_test(np.zeros(4)) == 1.0
    assert signed_rank_test([1, 2, -3]) == 1.0  # both sums are 3, and 5 of 8 patterns have no more
    assert signed_rank_test([-math.inf] * 6) == 2 / 64
    many = draw.normal(0.1, 1, 300)
    assert signed_rank_test(many) == pytest.approx(wilcoxon(many).pvalue, abs=0.02)


def test_one_difference_that_is_not_zero_proves_nothing() -> None:
    assert sign_flip_test([0.5]) == 1.0
    assert sign_flip_test(signed_ranks([0.0, 0.5])) == 1.0
