"""How the next trial is chosen, and when a trial is stopped early; not what may be chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from scipy.stats import qmc

from harness import rng
from harness.tuning.space import defaults
from harness.tuning.values import Value

SAMPLERS = {
    "tpe": "tree-structured Parzen estimator (Bergstra et al. 2011)",
    "gp": "Gaussian process",
    "random": "independent draws",
    "grid": "a grid in random order",
    "halton": "a Halton sequence, which fills the space evenly",
}
"""Each sampler in a few words."""

PRUNERS = {"wilcoxon": "Wilcoxon signed-rank test against the best trial, seed by seed", "none": "none"}
"""Each pruner in a few words."""

PRUNE_P = 0.1
"""Below this p a trial is stopped."""

PRUNE_SEEDS = 5
"""The fewest seeds of a trial that pruning can save one of: four worse of four have p = 1/16, three of three 1/8."""


def make_sampler(name: str, turn: int, stream: str) -> BaseSampler:
    """The sampler that draws one trial.

    A sampler for each trial, seeded by the trial's turn, makes the list of trials a function of what the trials
    before have shown, and not of how often the search was stopped and taken up again.

    Args:
        name: of `SAMPLERS`; the trials of "grid" and "halton" are planned (`planned`), and this draws none.
        turn: how many trials were begun before.
        stream: what tells this arm's draws from those of others.
    """
    seed = rng.derive(turn, f"search/{stream}") % 2**32
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)  # keeps away from trials that others are training now
    return GPSampler(seed=seed) if name == "gp" else RandomSampler(seed=seed)


def make_pruner(name: str) -> BasePruner:
    """The pruner of `PRUNERS`.

    The Wilcoxon pruner stops a trial when its seeds so far are worse than the same seeds of the best trial so far.
    That saves time and is no verdict: the rival is not the baseline, was chosen for being best, and is looked at
    again after every seed. A pruned trial has fewer seeds, so that its mean does not compare with other means; it
    never wins.
    """
    return WilcoxonPruner(p_threshold=PRUNE_P) if name == "wilcoxon" else NopPruner()


def planned(name: str, space: Sequence[Value], trials: int, stream: str) -> list[dict[str, Any]]:
    """The trials that are known before any has been trained: the default, and all those of a grid or sequence."""
    first = [defaults(space)]
    if name == "grid":
        return first + _grid(space, trials - 1, stream)
    if name == "halton":
        return first + _halton(space, trials - 1, stream)
    return first


def _grid(space: Sequence[Value], points: int, stream: str) -> list[dict[str, Any]]:
    """Points of the smallest grid with enough of them, in random order; fewer where the grid has no more.

    Choices and whole numbers have at most as many levels as there are; all others have the same number of levels.
    """
    levels = 1
    while math.prod(len(_axis(v, levels)) for v in space) < points and any(v.levels > levels for v in space):
        levels += 1
    cells = list(product(*(_axis(v, levels) for v in space)))
    order = rng.numpy_stream(0, f"search/grid/{stream}").permutation(len(cells))
    return [dict(zip([v.name for v in space], cells[i], strict=True)) for i in order[:points]]


def _axis(value: Value, levels: int) -> list[Any]:
    """That many values from the low end to the high end, or all that there are."""
    if value.choices:
        return list(value.choices)
    if value.levels <= levels:
        return list(range(int(value.low), int(value.high) + 1))
    shares = [i / (levels - 1) for i in range(levels)] if levels > 1 else [0.5]
    return list(dict.fromkeys(value.at(share) for share in shares))


def _halton(space: Sequence[Value], points: int, stream: str) -> list[dict[str, Any]]:
    sequence = qmc.Halton(d=len(space), rng=np.random.default_rng(rng.derive(0, f"search/halton/{stream}")))
    return [{v.name: v.at(share) for v, share in zip(space, row, strict=True)} for row in sequence.random(points)]
