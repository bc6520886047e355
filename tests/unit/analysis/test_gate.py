"""The rule of a gate: its levels by hand, and what a stream of candidates accepts in simulation."""

import numpy as np
import pytest
from scipy import stats

from harness.analysis.gate import LOOKS, SHARES, judge, level_at, smallest


def test_the_levels_of_all_candidates_and_looks_add_up_to_alpha():
    assert sum(level_at(look, 0.05, 20) for _ in range(20) for look in range(len(LOOKS))) == pytest.approx(0.05)
    assert level_at(2, 0.05, 20) == pytest.approx(0.05 / 20 * 0.8)


def test_p_is_that_of_the_one_sided_paired_t_test_and_the_interval_the_usual_one():
    gains = [1.0, 2.5, 1.5, 2.0, 3.0]
    look = judge(gains, 0, 0.05, 1, 0.5)

    assert look.p == pytest.approx(stats.ttest_1samp(gains, 0, alternative="greater").pvalue)
    low, high = stats.t.interval(0.95, 4, np.mean(gains), stats.sem(gains))
    assert (look.n, look.mean, look.low, look.high) == pytest.approx((5, 2.0, low, high))
    assert look.level == pytest.approx(0.05 * 0.05)
    assert look.decision == "accept"
    assert judge(gains, 0, 0.04, 1, 0.5).decision == "undecided"


@pytest.mark.parametrize(
    ("gains", "look", "decision"),
    [
        ([1.0, 2.5, 1.5, 2.0, -1.0], 0, "undecided"),
        ([-1.0, -2.5, -1.5, -2.0, 1.0], 0, "reject"),
        ([0.1, -0.1, 0.05, 0.0, 0.1], 0, "reject"),
        ([1.0, 2.5, 1.5, 2.0, -1.0] * 4, 2, "accept"),
        ([2.0, -2.0, 2.5, -1.0] * 5, 2, "reject"),
        ([0.0] * 5, 0, "reject"),
        ([0.5] * 5, 0, "undecided"),
        ([0.5] * 20, 2, "accept"),
    ],
)
def test_a_candidate_is_accepted_rejected_or_goes_on(gains, look, decision):
    assert judge(gains, look, 0.05, 10, 0.5).decision == decision


def test_what_a_stream_can_find_shrinks_with_its_length():
    assert smallest(1, 0.05, 1) < smallest(1, 0.05, 20) < smallest(1, 0.05, 200)
    assert smallest(2, 0.05, 20) == pytest.approx(2 * smallest(1, 0.05, 20))


def stream(draw, effects, candidates, margin=0.5, alpha=0.05):
    """Which candidates of a stream are accepted, and after how many pairs; all share the baseline's runs.

    Differences have a standard deviation of 1.
    """
    base, accepted, pairs, charged = draw.standard_normal(LOOKS[-1]), [], [], 0
    for effect in effects:
        if charged >= candidates:
            break
        d = (draw.standard_normal(LOOKS[-1]) - base) / np.sqrt(2) + effect
        for look, n in enumerate(LOOKS):
            decided = judge(d[:n], look, alpha, candidates, margin).decision
            if decided != "undecided":
                break
        charged += decided != "accept"
        accepted.append(decided == "accept")
        pairs.append(n)
    return accepted, pairs


@pytest.mark.slow
def test_a_stream_in_which_nothing_helps_accepts_any_in_at_most_5_percent():
    draw, streams = np.random.default_rng(1), 400
    false = sum(any(stream(draw, [0.0] * 200, 200)[0]) for _ in range(streams))

    # The bound is 5 %; above it, 400 streams would show 33 or more in 1 of 100 such tests.
    assert false <= stats.binom.ppf(0.99, streams, 0.05)
    assert false > 0


@pytest.mark.slow
def test_candidates_worth_a_standard_deviation_are_found_with_fewer_runs_than_a_fixed_rule_of_20_pairs():
    draw, found, all_pairs = np.random.default_rng(2), [], []
    for _ in range(100):
        effects = [1.0 if i % 4 == 0 else 0.0 for i in range(20)]
        accepted, pairs = stream(draw, effects, 20)
        found += [a for a, e in zip(accepted, effects, strict=False) if e]
        all_pairs += pairs

    assert np.mean(found) >= 0.8  # n = 500: the standard error is 0.016
    assert np.mean(all_pairs) < 16
    assert sum(SHARES) == 1


@pytest.mark.slow
def test_a_rule_of_5_seeds_and_a_threshold_accepts_much_that_does_not_help():
    draw = np.random.default_rng(3)
    gains = draw.standard_normal((2000, 200, 5)).mean(-1)

    assert (gains > 0.5).any(1).mean() > 0.99  # where the gate accepts any in at most 5 % of streams
