"""Error rates of verdicts, from thousands of simulated studies that go through `analyse` as those of a page do.

`make test-slow ARGS="tests/unit/analysis/test_simulation.py -s -n 0"` prints the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from harness import testing
from harness.analysis.effects import analyse
from harness.analysis.inference import sign_flip_test, signed_rank_test, t_interval, tost
from harness.analysis.types import GAINS, LOSSES, Analysis, Effect
from harness.analysis.verdicts import outlying

STRICT = ("helps", "hurts", "helps slightly", "hurts slightly")
STUDIES = 2000
"""Simulated studies of a cell of the table."""


def allowed(rate: float, studies: int) -> float:
    """`rate` and four standard errors of its estimate: exceeded once in 30,000 correct programs."""
    return rate + 4 * math.sqrt(rate * (1 - rate) / studies)


def simulate(
    studies: int,
    n: int,
    effects: list[float],
    *,
    diverging: float = 0.0,
    base_diverging: float = 0.0,
    images: int | None = None,
    margin: float = 0.5,
    seed: int = 0,
) -> Iterator[Analysis]:
    """Studies of arms with these true effects, in paired standard deviations, against one baseline that they share.

    Args:
        studies: how many.
        n: seeds of each.
        effects: of the arms.
        diverging: the chance that a run of an arm diverges.
        base_diverging: that of the baseline.
        images: size of the test split, where two networks differ on about one image in ten; None for an infinite one.
        margin: in paired standard deviations, which are points.
        seed: of the simulation.
    """
    labels = [f"arm{i}" for i in range(len(effects))]
    plans = [testing.make_arm(label, n) for label in labels]
    manifest = testing.make_manifest(["baseline", *plans], n, margin=margin)
    spec = {"spec": f'{{"data": {{"test_size": {images}}}}}'} if images else {}
    rows = pd.DataFrame([testing.make_row(arm, s, **spec) for arm in ("baseline", *labels) for s in range(n)])
    draw = np.random.default_rng([seed, n, len(effects)])
    shape = (len(effects) + 1, n)
    for _ in range(studies):
        # Blocks differ by 2 points, and runs of a block by what makes the deviation of a difference one point.
        values = 90 + draw.normal(0, 2, n) + draw.normal(0, math.sqrt(0.5), shape)
        if images:
            base = draw.binomial(images, 0.9, n)
            gained, lost = draw.poisson(images / 20, shape), draw.poisson(images / 20, shape)
            values = 100 * (base + np.where(np.arange(shape[0])[:, None] > 0, gained - lost, 0)) / images
        values[1:] += np.array(effects)[:, None]
        ended = draw.random(shape) >= diverging
        ended[0] = draw.random(n) >= base_diverging
        rows["test_accuracy"] = np.where(ended, values / 100, math.nan).ravel()
        rows["status"] = np.where(ended, "ok", "diverged").ravel()
        yield analyse(rows, manifest)


def share(analyses: Iterator[Analysis], what: Callable[[Effect], bool]) -> float:
    """In how many of these studies any arm has a property."""
    found = [any(what(e) for e in a.effects) for a in analyses]
    return sum(found) / len(found)


def tell(cell: str, **rates: float) -> None:
    """A row of the table."""
    told = "  ".join(f"{name} {100 * rate:.1f} %" for name, rate in rates.items())
    print(f"{STUDIES} studies of {cell:48s}{told}")  # noqa: T201


def claimed(effect: Effect) -> bool:
    return effect.verdict.kind in STRICT


def likely(effect: Effect) -> bool:
    return effect.verdict.kind in GAINS or effect.verdict.kind in LOSSES


def helps(effect: Effect) -> bool:
    return effect.verdict.kind in GAINS


def equivalent(effect: Effect) -> bool:
    return effect.verdict.kind == "equivalent" or "negligible" in effect.verdict.label


@pytest.mark.parametrize("n", [5, 10])
def test_few_studies_already_show_honest_error_rates(n: int) -> None:
    studies = 100
    assert share(simulate(studies, n, [0.0] * 3), claimed) <= allowed(0.05, studies)
    assert share(simulate(studies, n, [0.5, -0.5]), equivalent) <= allowed(0.05, studies)
    assert share(simulate(studies, n, [0.0], diverging=0.3), helps) <= allowed(0.025, studies)


def test_the_size_of_an_image_makes_no_arm_unstable() -> None:
    for images in (50, 200):
        assert share(simulate(200, 5, [0.0], images=images), lambda e: e.verdict.unstable) <= 0.02


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_interval_covers_the_truth_in_93_to_97_percent(n: int) -> None:
    _, low, high = t_interval(np.random.default_rng(n).normal(0.7, 1.0, (20_000, n)))
    assert 0.93 <= np.mean((low < 0.7) & (high > 0.7)) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_cover_and_one_useless_trick_is_claimed_to_matter_in_at_most_five_percent(n: int) -> None:
    effects = [a.effects[0] for a in simulate(STUDIES, n, [0.0])]
    covered = np.mean([e.low <= 0 <= e.high for e in effects])
    false = np.mean([claimed(e) for e in effects])
    tell(f"one arm without effect, {n} seeds", coverage=covered, false=false)
    assert 0.93 <= covered <= 0.97
    assert false <= allowed(0.05, STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "n"), [(10, 5), (10, 10), (10, 20), (100, 10)])
def test_a_sweep_of_useless_tricks_claims_any_in_at_most_five_percent(arms: int, n: int) -> None:
    analyses = list(simulate(STUDIES, n, [0.0] * arms))
    any_claimed = share(iter(analyses), claimed)
    all_covered = 1 - share(iter(analyses), lambda e: not e.low_all <= 0 <= e.high_all)
    any_likely = share(iter(analyses), likely)
    tell(
        f"{arms} arms without effect, {n} seeds",
        any_claimed=any_claimed,
        any_likely=any_likely,
        all_covered=all_covered,
    )
    assert any_claimed <= allowed(0.05, STUDIES)
    assert any_likely <= allowed(0.05, STUDIES)  # where nothing is true, the false discovery rate is this one
    assert all_covered >= 0.95 - 4 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.slow
def test_of_likely_tricks_five_percent_at_most_are_useless() -> None:
    effects, wrong, found = [1.0] * 20 + [0.0] * 80, [], []
    for a in simulate(STUDIES, 10, effects):
        called = [likely(e) for e in a.effects]
        wrong.append(sum(called[20:]) / max(1, sum(called)))
        found.append((sum(called[:20]) / 20, sum(claimed(e) for e in a.effects[:20]) / 20))
    power, strict = np.mean(found, axis=0)
    tell("100 arms, 20 of one sd, 10 seeds", false_share=float(np.mean(wrong)), found=power, found_by_holm=strict)
    assert np.mean(wrong) <= 0.05 + 4 * np.std(wrong) / math.sqrt(STUDIES)
    assert power > strict


@pytest.mark.slow
@pytest.mark.parametrize(("arms", "n"), [(1, 5), (1, 20), (10, 10), (100, 10)])
def test_effects_as_large_as_the_margin_are_called_equivalent_in_at_most_five_percent(arms: int, n: int) -> None:
    margin = 1.0 if n < 20 else 0.5
    analyses = simulate(STUDIES, n, [margin * (-1) ** i for i in range(arms)], margin=margin)
    rate = share(analyses, equivalent)
    tell(f"{arms} arms at the margin of {margin:g} sd, {n} seeds", equivalent=rate)
    assert rate <= allowed(0.05, STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("diverging", [0.1, 0.2, 0.4])
def test_a_trick_that_diverges_helps_no_more_than_by_chance_and_with_its_count(n: int, diverging: float) -> None:
    null = share(simulate(STUDIES, n, [0.0], diverging=diverging), helps)
    helped = hidden = 0
    for a in simulate(STUDIES, n, [1.0], diverging=diverging, seed=1):
        (e,) = a.effects
        helped += helps(e)
        counted = (
            f"{e.n_diverged} of {n} diverged" in e.verdict.label and f"{e.n_diverged} of {n}" in e.verdict.sentence
        )
        hidden += bool(e.n_diverged) and not counted
    tell(f"diverging in {diverging:.0%} of {n} seeds", null_helps=null, one_sd_helps=helped / STUDIES)
    assert null <= allowed(0.025, STUDIES)
    assert hidden == 0
    assert helped / STUDIES < 0.5 or diverging < 0.4


@pytest.mark.slow
@pytest.mark.parametrize(("base_diverging", "n"), [(0.0, 10), (0.2, 5), (0.2, 10), (0.2, 20)])
def test_sweeps_whose_runs_diverge_claim_any_in_at_most_five_percent(base_diverging: float, n: int) -> None:
    """With as many divergences on both sides, which are then exchangeable; without, arms may only hurt."""
    helped = claims = suggested = 0
    for a in simulate(STUDIES, n, [0.0] * 10, diverging=0.2, base_diverging=base_diverging):
        helped += any(map(helps, a.effects))
        claims += any(map(claimed, a.effects))
        suggested += sum(e.verdict.kind == "suggestive" for e in a.effects) / 10
        assert not any("nan" in e.verdict.sentence + e.verdict.label for e in a.effects)
    rates = {"any_helps": helped / STUDIES, "any_claimed": claims / STUDIES, "suggestive": suggested / STUDIES}
    tell(f"10 arms that diverge in 20 %, the baseline in {base_diverging:.0%}, {n} seeds", **rates)
    assert helped / STUDIES <= allowed(0.025, STUDIES)
    assert not base_diverging or claims / STUDIES <= allowed(0.05, STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("images", [50, 100, 150, 200])
def test_few_test_images_make_hardly_any_arm_unstable(images: int) -> None:
    rate = share(simulate(STUDIES, 5, [0.0], images=images), lambda e: e.verdict.unstable)
    false = share(simulate(STUDIES, 5, [0.0], images=images, seed=1), claimed)
    tell(f"one arm without effect, 5 seeds, {images} test images", unstable=rate, false=false)
    assert rate < 0.02
    assert false <= allowed(0.05, STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("n", [6, 10])
def test_permutation_and_rank_tests_keep_their_level(n: int) -> None:
    d = np.random.default_rng([1, n]).normal(size=(2000, n))
    assert np.mean([sign_flip_test(row) < 0.05 for row in d]) <= allowed(0.05, 2000)
    assert np.mean([signed_rank_test(row) < 0.05 for row in d]) <= allowed(0.05, 2000)


def test_two_one_sided_tests_keep_their_level() -> None:
    d = np.random.default_rng(5).normal(1.0, 1.0, (1000, 5))
    assert np.mean(tost(d, 1.0) < 0.05) <= allowed(0.05, 1000)
    assert sum(outlying(row, 0.5) > 0 for row in d) < 20
