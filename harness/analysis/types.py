"""What an analysis returns: plain frozen values that tables, figures and the command line print."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

VerdictKind = Literal[
    "helps",
    "hurts",
    "helps slightly",
    "hurts slightly",
    "likely helps",
    "likely hurts",
    "suggestive",
    "equivalent",
    "undecided",
    "inactive",
    "no verdict",
    "skipped",
    "failed",
]


GAINS: tuple[VerdictKind, ...] = ("helps", "helps slightly", "likely helps")
LOSSES: tuple[VerdictKind, ...] = ("hurts", "hurts slightly", "likely hurts")
"""The kinds of verdicts that claim a direction."""

Test = Literal["t", "signed-rank", "sign-flip"]
"""The test that decides: Student's of the differences, Wilcoxon's of their ranks, or the exact one of their signs."""

State = Literal["holds", "fails", "not known"]
Check = tuple[str, State, str]
"""What makes a comparison valid, whether it does here, and the detail."""

Severity = Literal["info", "warning", "problem"]
Code = Literal[
    "at_chance",
    "diverged",
    "not_converged",
    "overconfident",
    "overfitting",
    "saturated",
    "train_above_validation",
    "unstable_seeds",
    "validation_too_small",
]


@dataclass(frozen=True)
class Verdict:
    """The answer for one arm.

    `label` is a few words for a table cell; `sentence` stands alone, with the effect, its interval, n and
    the scope. `unstable` marks arms with diverged or wildly outlying seeds.
    """

    kind: VerdictKind
    label: str
    sentence: str
    unstable: bool = False


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of within-seed ratios arm / baseline with a 95 % t interval on the log scale."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Effect:
    """One arm against the baseline, paired by seed, in points of the metric (percent for accuracies).

    `n` counts the pairs that finished, which the effect, its interval and all that describes them come from. A seed
    that diverged is an outcome, too: the test that decides, the wins and the ties count all `n_judged` pairs. Numbers
    that cannot be computed (too few pairs) are NaN. `low` and `high` bound the interval at level 1 - alpha; they are
    NaN where all seeds have the same difference other than zero, because nothing then tells how much seeds vary.
    `p_wilcoxon` is of all judged pairs. Where a run diverged, `p`, `p_permutation`, `p_tost`, `dz` and `e_value` are
    NaN: those of the pairs that finished would leave the others out. `p_holm` is the adjusted p of the `test` that
    decides. `mde` is the smallest effect found with 80 % power at this n; `more_seeds` how many further seeds an effect
    of the size of the margin would need (None when already enough or unknown). `pairing_gain` is the variance of the
    difference as if unpaired over the paired one. `noise_share` is the part of the paired variance that a larger test
    set would remove.
    """

    arm: str
    tricks: tuple[str, ...]
    n: int
    n_planned: int
    seeds: tuple[int, ...]
    base: tuple[float, ...]
    treated: tuple[float, ...]
    mean_base: float
    mean_arm: float
    mean: float
    low: float
    high: float
    sd: float
    p: float
    p_holm: float
    p_permutation: float
    p_wilcoxon: float
    p_tost: float
    dz: float
    wins: int
    ties: int
    mde: float
    more_seeds: int | None
    correlation: float
    pairing_gain: float
    noise_share: float
    time: Ratio | None
    memory: Ratio | None
    n_diverged: int
    n_failed: int
    n_skipped: int
    reasons: tuple[str, ...]
    verdict: Verdict
    image_error: float = math.nan
    """Standard error of the mean, in points, from the choice of test images alone."""
    images: tuple[tuple[int, int, int, float], ...] = ()
    """For each pair: seed, test images that only the arm got right, that only the baseline did, and McNemar's exact p,
    which answers for these two trained networks and not for the trick."""
    e_value: float = math.nan
    """Evidence against no effect that stays valid however often one looks: 20 is as strong as p = 0.05 once."""
    test: Test = "t"
    p_least: float = 0.0
    """The smallest p that the test that decides can have with these pairs."""
    q: float = math.nan
    """Benjamini and Hochberg's, of the tests that decide; NaN where fewer than `MANY` arms are judged together."""
    p_tost_holm: float = math.nan
    """`p_tost`, adjusted for the arms that are judged together."""
    low_all: float = math.nan
    high_all: float = math.nan
    """The interval that holds for all arms at once, with probability 1 - alpha: Bonferroni's, of the t distribution."""
    lost: tuple[int, int, int] = (0, 0, 0)
    """Seeds on which only the arm diverged, only the baseline, and both."""
    p_lost: float = math.nan
    """McNemar's exact p that arm and baseline diverge equally often, adjusted for the arms that are judged together."""
    more_for_effect: int | None = None
    """How many further seeds find an effect of the size seen with 80 % power at the corrected level; None as above."""

    does: str = ""
    """The kind of the arm's tricks, see `harness.tricks.kinds`; empty where nobody said it."""

    @property
    def clear(self) -> bool:
        """Whether all pairs finished and the arm's own interval excludes zero."""
        return not any(self.lost) and (self.low > 0 or self.high < 0)

    @property
    def n_judged(self) -> int:
        """Pairs that the test that decides counts: those that finished, and those of which a run diverged."""
        return self.n + sum(self.lost)

    @property
    def differences(self) -> tuple[float, ...]:
        """Arm minus baseline, seed by seed."""
        return tuple(t - b for b, t in zip(self.base, self.treated, strict=True))


@dataclass(frozen=True)
class Analysis:
    """All effects of a study on one metric.

    `unit` is "points" for percent scales, else the metric's own unit, or empty. `margin` is NaN where none
    was declared, which is everywhere but for accuracies. `checks` are those of the validity box. `scope` is the
    workload in a few words, on which all of it holds. `family` is the number of arms that are judged together. `blocks`
    is what its seeds draw their blocks from, see `harness.analysis.blocks`; empty where that is not known.
    """

    metric: str
    unit: str
    higher_is_better: bool
    margin: float
    alpha: float
    baseline_n: int
    baseline_mean: float
    baseline_sd: float
    baseline_failed: int
    effects: tuple[Effect, ...]
    checks: tuple[Check, ...] = field(default=())
    study: str = ""
    scope: str = ""
    family: int = 0
    blocks: str = ""


@dataclass(frozen=True)
class Estimate:
    """One number with its interval, in the unit of the values.

    `low` and `high` bound the interval at level 1 - alpha. `n` counts the blocks that it comes from.
    `p_holm` is corrected over the estimates of the same table. What cannot be computed is NaN.
    """

    name: str
    mean: float
    low: float
    high: float
    se: float
    p: float
    p_holm: float
    n: int


@dataclass(frozen=True)
class FactorialFit:
    """Least squares in every block, with two-way interactions and no higher ones, and intervals over blocks.

    A main effect is the average difference between on and off over both states of the other factors; an
    interaction is the difference of differences. `r_squared` is the part of the variance inside blocks that
    the mean effects explain; NaN where nothing varies.

    `aliases` are chains of effects that the arms cannot tell apart. A chain of interactions is estimated as
    their (signed) sum under the chain's name; a chain with a main effect in it is not estimated.
    `not_estimable` are the other effects that the arms cannot answer for, such as the interaction of two
    factors that are never on together; main effects are then those with the other factor off.
    """

    main: tuple[Estimate, ...]
    interactions: tuple[Estimate, ...]
    r_squared: float
    aliases: tuple[str, ...]
    not_estimable: tuple[str, ...]


@dataclass(frozen=True)
class Credit:
    """The least and the most mean credit of a factor over all orders of stacking.

    The two estimates are named after what the factor then comes after, joined by +; empty for the baseline.
    """

    name: str
    least: Estimate
    most: Estimate


@dataclass(frozen=True)
class DesignAnalysis:
    """Everything that a study's arms can say about its factors; what they cannot is empty or None.

    `interactions` are those of `fit` where the design has one, else the synergies of pairs with all other
    factors off. `steps` are paired differences of each arm of a growing stack from the one before, named
    after the factor that was added: in the order asked for, or where every order ran, in the greedy order
    that the validation split chooses (the first of these flatter themselves). `notes` say what is aliased, skipped or
    missing.
    """

    metric: str
    unit: str
    higher_is_better: bool
    factors: tuple[str, ...]
    fit: FactorialFit | None
    interactions: tuple[Estimate, ...]
    one_at_a_time: tuple[Estimate, ...]
    leave_one_out: tuple[Estimate, ...]
    shapley: tuple[Estimate, ...]
    order: tuple[Credit, ...]
    steps: tuple[Estimate, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that a curve shows.

    `info` is worth knowing and needs nothing done, `warning` may change how the effects are read, `problem`
    means that the runs do not answer the question. `evidence` has the numbers and their n, `advice` the
    probe that settles it.
    """

    code: Code
    severity: Severity
    title: str
    evidence: str
    advice: str
