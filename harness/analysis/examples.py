"""The error that comes from which images the test split holds, apart from the error that comes from seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Right = NDArray[np.bool_]
"""Whether each test image was classified right, (images,)."""


def image_error(pairs: Sequence[tuple[Right, Right]]) -> float:
    """Standard error, in points, of the mean paired difference if only the test images were drawn again.

    Each pair is (baseline, arm) on the same images; images are drawn again within each seed, because every
    seed has a test split of its own. This is the limit of a paired bootstrap over examples.
    """
    variances = []
    for base, arm in pairs:
        difference = arm.astype(float) - base.astype(float)
        variances.append(difference.var() / len(difference))
    return float(100 * np.sqrt(np.sum(variances)) / len(pairs)) if pairs else float("nan")


def mcnemar(base: Right, arm: Right) -> tuple[int, int, float]:
    """For one pair of networks: images that only the arm, and only the baseline, got right, and the exact p.

    McNemar 1947, with the binomial distribution instead of the approximation. It answers for these two
    trained networks, not for the trick.
    """
    gained, lost = int((arm & ~base).sum()), int((base & ~arm).sum())
    return gained, lost, mcnemar_p(gained, lost)


def mcnemar_p(one_way: int, other_way: int) -> float:
    """McNemar's exact two-sided p: of so many pairs that differ one way, and so many the other."""
    pairs = one_way + other_way
    return min(1.0, 2 * float(bdtr(min(one_way, other_way), pairs, 0.5))) if pairs else 1.0
