"""Halves of the seeds that predict each other, where ties decide."""

import numpy as np
import pytest

from harness.analysis.shrinkage import validate


def test_an_arm_that_differs_nowhere_has_held_its_sign_half():
    """Thirty arms equal the baseline, so that the middle half shares nothing; ten gain at every seed."""
    gains = 5 + np.random.default_rng(0).normal(0, 0.1, (10, 8))

    assert validate(np.concatenate([np.zeros((30, 8)), gains])).held == pytest.approx((30 * 0.5 + 10) / 40)
