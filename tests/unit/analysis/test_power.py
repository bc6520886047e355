import math

import numpy as np
import pytest

from harness.analysis.power import achieved_power, mde, pooled_sd, seeds_needed


@pytest.mark.parametrize(
    ("n", "expected"), [(3, 3.26), (5, 1.68), (8, 1.16), (10, 1.00), (15, 0.78), (20, 0.66), (30, 0.53)]
)
def test_smallest_detectable_effects_at_five_percent(n: int, expected: float) -> None:
    assert mde(1.0, n) == pytest.approx(expected, abs=0.006)
    assert mde(1.15, n) == pytest.approx(1.15 * mde(1.0, n))


@pytest.mark.parametrize(("n", "expected"), [(5, 3.16), (10, 1.48), (20, 0.91)])
def test_smallest_detectable_effects_at_a_tenth_of_the_level(n: int, expected: float) -> None:
    assert mde(1.0, n, alpha=0.005) == pytest.approx(expected, abs=0.006)


def test_power_agrees_with_simulated_t_tests() -> None:
    draws = np.random.default_rng(0).normal(1.0, 1.0, (40_000, 5))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / math.sqrt(5))
    rate = np.mean(np.abs(t) > 2.7764451)  # the tabled 97.5 % quantile for 4 degrees of freedom
    assert achieved_power(1.0, 1.0, 5) == pytest.approx(rate, abs=4 * math.sqrt(0.25 / 40_000))


def test_power_is_the_level_without_an_effect_and_grows_to_one() -> None:
    assert achieved_power(0.0, 1.0, 10, alpha=0.03) == 0.03
    assert achieved_power(1e-9, 1.0, 10, alpha=0.03) == pytest.approx(0.03)
    assert achieved_power(-1.0, 1.0, 10) == achieved_power(1.0, 1.0, 10)
    assert achieved_power(100.0, 1.0, 1000) == 1.0
    assert achieved_power(1.0, 0.0, 2) == 1.0


@pytest.mark.parametrize("effect", [0.3, 1.0, 3.0])
def test_seeds_needed_is_the_first_number_with_enough_power(effect: float) -> None:
    n = seeds_needed(effect, 1.0)
    assert n is not None
    assert achieved_power(effect, 1.0, n) >= 0.8 > achieved_power(effect, 1.0, n - 1)


def test_ten_seeds_find_one_standard_deviation() -> None:
    assert seeds_needed(1.0, 1.0) == 10


def test_seeds_needed_says_none_beyond_its_limit_and_for_unknown_sizes() -> None:
    assert seeds_needed(0.01, 1.0) is None
    assert seeds_needed(0.1, 1.0, n_max=100) is None
    assert seeds_needed(math.nan, 1.0) is None
    assert seeds_needed(1.0, math.nan) is None
    assert seeds_needed(0.0, 1.0) is None


def test_without_spread_everything_is_found_with_two_seeds() -> None:
    assert mde(0.0, 5) == 0.0
    assert seeds_needed(0.1, 0.0) == 2


@pytest.mark.parametrize(("sd", "n"), [(1.0, 1), (1.0, 0), (math.nan, 5)])
def test_too_few_pairs_or_an_unknown_spread_give_nan(sd: float, n: int) -> None:
    assert math.isnan(mde(sd, n))
    assert math.isnan(achieved_power(1.0, sd, n))


def test_pooled_sd_weights_variances_by_degrees_of_freedom() -> None:
    # Variances 1 with 2 degrees of freedom and 8 with 1: (2 × 1 + 1 × 8) / 3.
    assert pooled_sd([[1, 2, 3], [10, 14], [5]]) == pytest.approx(math.sqrt(10 / 3))
    assert math.isnan(pooled_sd([[1], []]))


def test_a_thousand_seeds_are_the_most_that_are_asked_for() -> None:
    """Effects that a thousand pairs just find, and of which 1,001 are needed."""
    found, missed = mde(1.0, 1000) * 1.0001, mde(1.0, 1001) * 1.00001

    assert (seeds_needed(found, 1.0), seeds_needed(missed, 1.0, n_max=2000)) == (1000, 1001)
    assert seeds_needed(missed, 1.0) is None
