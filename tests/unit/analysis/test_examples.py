import numpy as np
import pytest
from scipy import stats

from harness.analysis.examples import image_error, mcnemar


def pair(gained, lost, both, none):
    base = np.array([False] * gained + [True] * lost + [True] * both + [False] * none)
    arm = np.array([True] * gained + [False] * lost + [True] * both + [False] * none)
    return base, arm


def bootstrap(pairs, resamples, seed=0):
    """Mean paired differences, in points, over test images drawn again with replacement within each seed."""
    draw = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for base, arm in pairs:
        difference = arm.astype(float) - base.astype(float)
        shares = [(difference == v).mean() for v in (-1, 0, 1)]
        drawn = draw.multinomial(len(difference), shares, size=resamples)
        total += (drawn[:, 2] - drawn[:, 0]) / len(difference)
    return 100 * total / len(pairs)


def test_image_error_by_hand():
    """20 images, 3 gained and 1 lost: mean 0.1, variance 4/20 - 0.01 = 0.19, error sqrt(0.19 / 20)."""
    one = pair(3, 1, 10, 6)

    assert image_error([one]) == pytest.approx(100 * np.sqrt(0.19 / 20))
    assert image_error([one] * 4) == pytest.approx(100 * np.sqrt(0.19 / 20) / 2), "four seeds halve it"
    assert np.isnan(image_error([]))


def test_the_paired_bootstrap_agrees_with_the_closed_form():
    pairs = [pair(30, 20, 800, 150), pair(12, 25, 700, 263)]
    drawn = bootstrap(pairs, resamples=20_000)

    assert drawn.mean() == pytest.approx(100 * (10 / 1000 - 13 / 1000) / 2, abs=0.02)
    assert drawn.std() == pytest.approx(image_error(pairs), rel=0.03)


def test_mcnemar_is_the_exact_sign_test_on_discordant_images():
    assert mcnemar(*pair(9, 2, 50, 10)) == (9, 2, pytest.approx(stats.binom.cdf(2, 11, 0.5) * 2))
    assert mcnemar(*pair(0, 0, 5, 5)) == (0, 0, 1.0)
