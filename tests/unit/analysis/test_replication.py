"""Old and fresh effects side by side, by hand."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from harness import testing
from harness.analysis.effects import analyse
from harness.analysis.replication import _direction
from harness.analysis.replication import compared as compare_studies

OLD = {"mixup": (1, 2, 3, 4, 0), "ema": (2, 3, 2, 3, 2.5), "sam": (-1, -2, -1, -2, -1.5)}
NEW = {"mixup": (1, 2, 1, 2, 1.5), "ema": (-3, 3.2, -2, 2.1, 0.2), "sam": (1, 2, 1, 2, 1.5)}


def analysis(differences, first, metric="test_accuracy", **changes):
    """Effects of arms whose runs differ from a baseline of 90 % by so many points, on seeds from `first` on."""
    (n,) = {len(d) for d in differences.values()}
    manifest = testing.make_manifest(["baseline", *differences], range(first, first + n), **changes)
    rows = [testing.make_row("baseline", seed, **{metric: 0.9}) for seed in manifest.seeds]
    for arm, points in differences.items():
        rows += [testing.make_row(arm, first + i, **{metric: 0.9 + d / 100}) for i, d in enumerate(points)]
    return analyse(pd.DataFrame(rows), manifest, metric=metric)


def compared(old=OLD, new=NEW, first=5, machines=("a", "a"), **changes):
    seeds = range(first, first + len(next(iter(new.values()))))
    return compare_studies(analysis(old, 0, study="old"), analysis(new, first, **changes), seeds, machines)


def test_old_fresh_and_both_have_the_hand_computed_means_intervals_and_ratio():
    mixup, ema, sam = compared().arms

    assert (mixup.old.mean, mixup.old.n) == (pytest.approx(2.0), 5)
    half = 2.7764451 * math.sqrt(0.5)  # t with 4 degrees of freedom, sd sqrt(2.5)
    assert (mixup.old.low, mixup.old.high) == pytest.approx((2 - half, 2 + half))
    # Deviations -0.5, 0.5, -0.5, 0.5, 0 from 1.5: sd 0.5.
    half = 2.7764451 * 0.5 / math.sqrt(5)
    assert (mixup.new.mean, mixup.new.low, mixup.new.high, mixup.new.n) == pytest.approx(
        (1.5, 1.5 - half, 1.5 + half, 5)
    )
    # Ten differences with mean 1.75, whose squared deviations sum to 11.625.
    half = 2.2621572 * math.sqrt(11.625 / 9 / 10)
    assert (mixup.both.mean, mixup.both.low, mixup.both.high) == pytest.approx((1.75, 1.75 - half, 1.75 + half))
    assert mixup.both.n == 10
    assert (mixup.ratio, ema.ratio, sam.ratio) == pytest.approx((0.75, 0.04, -1))


def test_what_held_is_decided_by_fresh_seeds_after_holms_correction_in_the_old_direction():
    found = compared()

    assert [arm.outcome for arm in found.arms] == ["held", "same sign", "reversed"]
    # t = 1.5 / (0.5 / sqrt(5)) = 6.708 with 4 degrees of freedom: p = 0.0025703, the smallest of three.
    assert found.arms[0].p == pytest.approx(3 * 0.0025703, rel=1e-4)
    assert found.summary == "1 of 3 held, 2 of 3 same sign."
    assert [a.outcome for a in compared(alpha=0.005).arms] == ["same sign", "same sign", "reversed"], (
        "0.0077 is too large"
    )


def test_worse_is_a_direction_too_and_where_lower_is_better_down_is_better():
    worse = {"sam": OLD["sam"]}
    assert compared(worse, worse).summary == "1 of 1 held, 1 of 1 same sign."

    old, new = (analysis({"sam": OLD["sam"]}, first, metric="test_nll") for first in (0, 5))
    assert (new.higher_is_better, new.effects[0].verdict.kind) == (False, "helps")
    assert compare_studies(old, new, range(5, 10), ("a", "a")).arms[0].outcome == "held"


def test_fewer_than_five_fresh_seeds_hold_nothing():
    few = {"mixup": (1.0, 1.1, 1.2, 1.3)}
    (arm,) = compared({"mixup": OLD["mixup"]}, few).arms

    assert arm.p < 0.001
    assert arm.outcome == "same sign"
    (single,) = compared({"mixup": OLD["mixup"]}, {"mixup": (1.0,)}).arms
    assert (single.new.n, single.new.mean, single.outcome) == (1, pytest.approx(1.0), "same sign")
    assert math.isnan(single.new.low)


def test_a_claim_by_another_correction_than_holms_is_not_held():
    old, new = analysis({"mixup": OLD["mixup"]}, 0), analysis({"mixup": NEW["mixup"]}, 5)
    loose = replace(new, effects=(replace(new.effects[0], p_holm=0.06),))

    assert loose.effects[0].verdict.kind == "helps"
    assert compare_studies(old, loose, range(5, 10), ("a", "a")).arms[0].outcome == "same sign"


def test_no_difference_on_one_side_is_no_answer():
    (arm,) = compared({"mixup": (0, 0, 0, 0, 0)}, {"mixup": NEW["mixup"]}).arms

    assert arm.outcome == "no answer"
    assert math.isnan(arm.ratio)


def test_seeds_that_the_old_study_has_by_now_count_once_and_as_fresh_ones():
    found = compared({"mixup": (1, 2, 3, 4, 0)}, {"mixup": (1, 2, 1, 2, 1.5)}, first=3)
    (arm,) = found.arms

    assert (arm.old.mean, arm.old.n, arm.new.n, arm.both.n) == (pytest.approx(2.0), 3, 5, 8), "without seeds 3 and 4"
    assert found.notes[-1] == "old has seeds 3, 4 now, too; they count once, as fresh ones."


def test_selection_is_always_said_and_another_machine_where_it_is_one():
    assert len(compared().notes) == 1
    assert "chosen after their old effects were seen" in compared().notes[0]
    assert "(fingerprint a, and b for the fresh ones)" in compared(machines=("a", "b")).notes[1]
    assert compared({"mixup": OLD["mixup"]}).notes[-1] == "old no longer has ema, sam."


def test_a_verdict_tells_the_direction_and_where_there_is_none_the_mean_does():
    """The test of ranks may claim a gain while an outlier turns the mean."""
    found = analysis({"mixup": (1, 2, 1, 2, 1.5), "ema": (-3, 3.2, -2, 2.1, 0.2)}, 0)
    gains, unclear = found.effects

    assert (gains.verdict.kind, unclear.verdict.kind) == ("helps", "undecided")
    assert [_direction(gains, mean, found) for mean in (-1.0, 0.0, 1.0)] == [1, 1, 1]
    assert [_direction(unclear, mean, found) for mean in (-1.0, 0.0, math.nan, 1.0)] == [-1, 0, 0, 1]
