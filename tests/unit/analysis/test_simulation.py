"""Error rates of the procedure under the model that it assumes, and of its verdicts as a whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.effects import holm, sign_flip_test, signed_ranks, t_interval, t_test, tost
from harness.analysis.verdicts import decide, outlying

CLAIMS = {"helps", "hurts", "helps slightly", "hurts slightly"}


def allowed(rate: float, studies: int) -> float:
    """`rate` and four standard errors of its estimate: exceeded once in 30,000 correct programs."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / studies)


def differences(studies: int, n: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, n]).normal(mean, 1.0, (studies, n))


def false_claims(studies: int, n: int, margin: float) -> float:
    """How often a study of one useless trick claims an effect, outliers and the Wilcoxon test included."""
    d = differences(studies, n)
    p, p_tost = t_test(d), tost(d, margin)
    claims = 0
    for i, row in enumerate(d):
        mean, deciding = float(row.mean()), float(p[i])
        if outlying(row, margin):
            ranks = signed_ranks(row)
            mean, deciding = float(ranks.sum()), sign_flip_test(ranks)
        kind = decide(mean=mean, p=deciding, p_tost=float(p_tost[i]), alpha=0.05, higher_is_better=True)
        claims += kind in CLAIMS
    return claims / studies


def family_claims(families: int, tricks: int, n: int) -> float:
    """How often a sweep of useless tricks that share one baseline claims any effect."""
    rng = np.random.default_rng(n)
    base, arms = rng.normal(size=(families, 1, n)), rng.normal(size=(families, tricks, n))
    return float(np.mean((holm(t_test(arms - base)) < 0.05).any(axis=1)))


@pytest.mark.parametrize("n", [5, 10])
def test_few_studies_already_show_honest_error_rates(n: int) -> None:
    studies = 1000
    assert false_claims(studies, n, margin=0.5) <= allowed(0.05, studies)
    assert family_claims(studies, tricks=5, n=n) <= allowed(0.05, studies)
    assert np.mean(tost(differences(studies, n, mean=1.0), 1.0) < 0.05) <= allowed(0.05, studies)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_covers_the_truth_in_93_to_97_percent(n: int) -> None:
    _, low, high = t_interval(differences(20_000, n, mean=0.7))
    assert 0.93 <= np.mean((low < 0.7) & (high > 0.7)) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
def test_useless_tricks_are_claimed_to_matter_in_at_most_five_percent(n: int) -> None:
    assert false_claims(10_000, n, margin=0.5) <= allowed(0.05, 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
def test_a_sweep_of_useless_tricks_claims_any_in_at_most_five_percent(n: int) -> None:
    assert family_claims(4000, tricks=10, n=n) <= allowed(0.05, 4000)


@pytest.mark.slow
@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n", [5, 10, 20])
def test_effects_as_large_as_the_margin_are_called_equivalent_in_at_most_five_percent(n: int, margin: float) -> None:
    for sign in (-1, 1):
        p = tost(differences(40_000, n, mean=sign * margin), margin)
        assert np.mean(p < 0.05) <= allowed(0.05, 40_000)


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 10])
def test_permutation_and_wilcoxon_tests_keep_their_level(n: int) -> None:
    d = differences(2000, n, seed=1)
    assert np.mean([sign_flip_test(row) < 0.05 for row in d]) <= allowed(0.05, 2000)
    assert np.mean([sign_flip_test(signed_ranks(row)) < 0.05 for row in d]) <= allowed(0.05, 2000)
