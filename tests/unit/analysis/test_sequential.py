import math

import numpy as np
import pytest

from harness.analysis.inference import t_test, tost
from harness.analysis.sequential import LEVEL, LOOKS, calibrate, e_value, false_alarms, looked
from harness.analysis.verdicts import decide
from harness.errors import UserError


def test_one_look_needs_no_correction() -> None:
    assert calibrate([10], paths=20_000) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 20_000))


def test_the_stated_level_belongs_to_the_stated_looks() -> None:
    # The standard error of the overall rate, 0.0015, is that of the nominal level times about 2.5.
    assert calibrate(LOOKS, paths=20_000, seed=1) == pytest.approx(LEVEL, abs=0.0025)


def test_more_looks_need_a_stricter_level() -> None:
    assert calibrate(range(5, 21), paths=5_000) < calibrate(LOOKS, paths=5_000) < calibrate([20], paths=5_000)


@pytest.mark.parametrize("looks", [[], [1, 5], [5, 5], [10, 5]])
def test_impossible_looks_are_refused(looks: list[int]) -> None:
    with pytest.raises(UserError, match="increase"):
        calibrate(looks)


def test_looking_at_5_10_and_20_seeds_at_the_usual_level_more_than_doubles_false_alarms() -> None:
    assert false_alarms(LOOKS, 0.05) == pytest.approx(0.118, abs=4 * math.sqrt(0.118 * 0.882 / 100_000))
    assert false_alarms((10,), 0.05) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 100_000))
    assert false_alarms(LOOKS, LEVEL) == pytest.approx(0.05, abs=0.002), "the level that a plan of these looks tests at"
    assert 0.05 < false_alarms((5, 6), 0.05) < false_alarms((5, 10), 0.05) < false_alarms((5, 10, 10_000), 0.05)


def test_sums_of_what_each_look_adds_are_the_same_tests_as_all_draws() -> None:
    draws = np.random.default_rng(3).standard_normal((20_000, 9))
    alarm = np.any([t_test(draws[:, :n]) < 0.1 for n in (4, 5, 9)], axis=0).mean()

    assert false_alarms((4, 5, 9), 0.1) == pytest.approx(float(alarm), abs=4 * math.sqrt(0.2 * 0.8 / 20_000))


@pytest.mark.parametrize("looks", [(), (1, 5), (5, 5)])
def test_impossible_looks_have_no_false_alarms(looks: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="increase"):
        false_alarms(looks)


def test_several_looks_are_said_with_their_false_alarms_and_planned_ones_with_the_level_that_holds() -> None:
    assert looked((5, 10, 20), 0.05, None, "s") == (
        "This study was looked at 3 times, with 5, 10 and 20 seeds: with each look tested at 0.05, an arm without "
        "effect raises a false alarm in 12 % of such studies; fresh seeds settle it (harness replicate s)."
    )
    assert looked((5, 10), 0.0195, 0.05, "s") == (
        "This study was looked at 2 times, with 5 and 10 seeds, as planned: each is tested at level 0.0195, which "
        "keeps the declared level of 0.05 over all planned looks."
    )
    assert "looked at once, with 5 seeds, as planned" in looked((5,), 0.0195, 0.05, "s")
    assert looked((), 0.05, None, "s") == looked((10,), 0.05, None, "s") == ""
    assert looked((2, 3, 10), 0.05, None, "s") == "", "below five seeds there is no verdict, and so no alarm"


def test_e_values_match_the_closed_form_by_hand() -> None:
    # n = 4, g = 1, t = 3: (1 + 9 / 3) / (1 + 9 / 15) = 2.5, squared 6.25, over sqrt(5).
    assert e_value(3.0, 4) == pytest.approx(6.25 / math.sqrt(5))
    assert e_value(0.0, 4) == pytest.approx(1 / math.sqrt(5))
    assert e_value([3.0, -3.0], [4, 4]).tolist() == pytest.approx([6.25 / math.sqrt(5)] * 2)


def test_e_values_average_one_without_an_effect() -> None:
    t = np.random.default_rng(0).standard_t(9, 400_000)
    assert e_value(t, 10).mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_calibration_holds_with_many_paths() -> None:
    assert calibrate(LOOKS, paths=400_000) == pytest.approx(LEVEL, abs=0.0006)


@pytest.mark.slow
def test_an_endless_study_rarely_reaches_twenty_without_an_effect() -> None:
    draws = np.random.default_rng(0).standard_normal((20_000, 200))
    n = np.arange(1, 201)
    mean = draws.cumsum(axis=1) / n
    sd = np.sqrt((np.square(draws).cumsum(axis=1) - n * mean**2)[:, 1:] / (n[1:] - 1))
    ever = (e_value(mean[:, 1:] / sd * np.sqrt(n[1:]), n[1:]) >= 20).any(axis=1).mean()
    assert ever <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 20_000)


@pytest.mark.slow
def test_a_sequential_a_a_study_claims_an_effect_in_at_most_five_percent() -> None:
    """The verdict's own rule at 5, 10 and 20 seeds, stopping at the first look that decides; 4,000 studies."""
    draws = np.random.default_rng(1).standard_normal((4000, 20))
    claimed = 0
    for d in draws:
        for n in LOOKS:
            seen = d[:n]
            kind = decide(
                mean=float(seen.mean()), p=float(t_test(seen)), p_tost=float(tost(seen, 0.5)), alpha=LEVEL,
                higher_is_better=True,
            )  # fmt: skip
            if kind != "undecided":
                claimed += kind != "equivalent"
                break
    assert claimed / len(draws) <= 0.05 + 3 * (0.05 * 0.95 / len(draws)) ** 0.5
