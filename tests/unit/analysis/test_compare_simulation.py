"""Error rates of comparisons of studies, through `compare`, under the model that they assume."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analysis.compare import FEWEST_AVERAGED, ArmComparison, compare, mean_effect

STUDIES = 2000
CELLS = list(product([5, 10], [2, 3, 5], [0.0, 1.0]))
"""Seeds, studies, and standard deviation of the true effects over that of a paired difference."""


def measured(differences: np.ndarray) -> Any:
    """What a comparison reads of an effect: its pairs, and nothing that other tests decide."""
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    return SimpleNamespace(
        arm="x", n=len(differences), seeds=tuple(range(len(differences))), differences=tuple(differences.tolist()),
        base=tuple(differences.tolist()), treated=tuple(differences.tolist()), mean=mean, sd=sd, low=mean, high=mean,
    )  # fmt: skip


def compared(effects: list[Any], blocks: str = "") -> ArmComparison:
    studies: Any = {
        str(i): SimpleNamespace(effects=(e,), alpha=0.05, metric="m", unit="points", blocks=blocks)
        for i, e in enumerate(effects)
    }
    return compare(studies).arms[0]


def studies(n: int, k: int, between: float, rng: np.random.Generator, blocks: float = 0.0) -> list[Any]:
    """Effects of k studies whose true mean is 0.7; `blocks` is the correlation of their blocks."""
    truth = 0.7 + between * rng.normal(size=(k, 1))
    shared, own = rng.normal(size=(1, n)), rng.normal(size=(k, n))
    return [measured(row) for row in truth + np.sqrt(blocks) * shared + np.sqrt(1 - blocks) * own]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k", "between"), CELLS)
def test_independent_studies_are_judged_at_their_level(n: int, k: int, between: float) -> None:
    rng = np.random.default_rng([n, k, int(10 * between)])
    rejected, covered = 0, 0
    for _ in range(STUDIES):
        arm = compared(studies(n, k, between, rng))
        assert arm.heterogeneity is not None
        rejected += arm.heterogeneity.p < 0.05
        found = arm.overall if k >= FEWEST_AVERAGED else mean_effect([e for _, e in arm.effects], 0.05)
        assert found is not None
        covered += found.low < 0.7 < found.high
    assert 0.93 <= covered / STUDIES <= 0.97
    if between:
        assert rejected / STUDIES > 0.3
    else:
        assert 0.03 <= rejected / STUDIES <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize(("n", "k"), [(5, 3), (5, 5), (10, 3)])
def test_the_mean_keeps_its_level_where_studies_differ_in_size_and_noise(n: int, k: int) -> None:
    rng = np.random.default_rng([n, k])
    covered = 0
    for _ in range(STUDIES):
        effects = [
            measured(0.7 + rng.normal() + (1 + i % 2) * rng.normal(size=n * (1 + (i + 1) % 2))) for i in range(k)
        ]
        found = mean_effect(effects, 0.05)
        covered += found.low < 0.7 < found.high
    assert 0.93 <= covered / STUDIES <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("n", "correlation"), list(product([5, 10], [0.0, 0.5, 0.9])))
def test_the_difference_of_shared_blocks_is_covered_at_every_correlation(n: int, correlation: float) -> None:
    rng = np.random.default_rng([n, int(10 * correlation)])
    covered, together = 0, 0
    for _ in range(STUDIES):
        arm = compared(studies(n, 3, 0.0, rng, blocks=correlation), blocks="digits")
        assert arm.differences[0].pairs == n
        assert arm.heterogeneity is not None
        covered += arm.differences[0].low < 0 < arm.differences[0].high
        together += arm.heterogeneity.p < 0.05
    assert 0.93 <= covered / STUDIES <= 0.97
    assert together / STUDIES <= 0.07
