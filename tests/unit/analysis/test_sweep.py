from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.analysis.effects import analyse
from harness.analysis.inference import t_interval
from harness.analysis.shrinkage import middle, mild, moderated, own_parts, posterior, shrink, validate
from harness.analysis.sweep import Sweep, sweep_of
from harness.store.reader import read_manifest, read_study
from harness.testing import make_manifest, make_row

PUBLISHED = Path(__file__).parents[3] / "results" / "published"


def study_of(base, arms):
    """The analysis of accuracies in points: of the baseline, shape (seeds,), and of arms by name."""
    manifest = make_manifest(["baseline", *arms], seeds=len(base))
    values = {"baseline": base, **arms}
    rows = [
        make_row(arm, s, test_accuracy=float(values[arm.label][s]) / 100)
        for arm in manifest.arms
        for s in manifest.seeds
    ]
    return analyse(pd.DataFrame(rows), manifest)


@pytest.fixture(scope="module")
def published():
    def load(name):
        manifest = read_manifest(PUBLISHED / name)
        return sweep_of(analyse(read_study(PUBLISHED / name, manifest.runs, predictions=False).runs, manifest))

    return load


def lucky(arms, n=10, luck=1.0, noise=0.3, effects=None, seed=0):
    """Arms that share nothing with each other but the baseline's luck: (baseline, arms by name)."""
    rng = np.random.default_rng(seed)
    block = 80 + rng.normal(size=n)
    effects = np.zeros(arms) if effects is None else effects
    values = block + effects[:, None] + noise * rng.normal(size=(arms, n))
    return block - luck * rng.normal(size=n), {f"a{i}": v for i, v in enumerate(values)}


def test_what_all_arms_share_is_the_middle_half_seed_by_seed():
    base = np.array([80.0, 82.0, 81.0, 80.0, 79.0])
    shifts = [-30, -1, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    arms = {f"a{i}": base + shift + np.arange(5) / 2 for i, shift in enumerate(shifts)}
    found = sweep_of(study_of(base, {**arms, "placebo": base[::-1], "same": base}))
    assert (found.arms, found.mild_arms, found.left_out) == (11, 10, 0)  # -30 is far out, "same" changed nothing
    # The mild arms are -1 ... 4; of ten, two at each end go: 0.5 to 3 with mean 1.75, and seeds add 0 to 2 in halves.
    per_seed = 1.75 + np.arange(5) / 2
    low, high = stats.t.interval(0.95, 4, per_seed.mean(), stats.sem(per_seed))
    assert (found.shared.mean, found.shared.low, found.shared.high) == pytest.approx((2.75, low, high))
    assert found.shared.n == 5
    assert found.median == pytest.approx(2.75)
    assert found.correlation == pytest.approx(1)
    assert found.placebo.mean == pytest.approx(0)
    assert (found.shrunk, found.halves) == ((), None)


def test_few_arms_or_few_seeds_say_nothing_of_what_is_shared():
    base, arms = lucky(10)
    assert sweep_of(study_of(base, arms)) is not None
    assert sweep_of(study_of(base, dict(list(arms.items())[:9]))) is None
    assert sweep_of(study_of(base[:4], {k: v[:4] for k, v in arms.items()})) is None


def test_an_arm_without_all_seeds_is_counted_and_left_out():
    base, arms = lucky(11)
    analysis = study_of(base, arms)
    short = analysis.effects[0]
    short = replace(short, n=9, seeds=short.seeds[:9], base=short.base[:9], treated=short.treated[:9])
    found = sweep_of(replace(analysis, effects=(short, *analysis.effects[1:])))
    assert (found.arms, found.left_out) == (10, 1)


def test_the_own_part_of_an_arm_that_shares_all_or_nothing():
    shared = np.array([1.0, 3.0, 2.0, 2.0])
    own, error = own_parts(np.array([shared + 0.5, [0.3, 0.3, 0.3, 0.3], 1 + 3 * shared, 1 - shared]), shared)
    assert own[:2] == pytest.approx([0.5, 0.3])
    assert error[:2] == pytest.approx([0, 0], abs=1e-12)
    assert own[2:] == pytest.approx([7 - 2, -1])  # slopes of 3 and -1 are held at 1 and 0


def test_the_own_part_is_the_intercept_of_least_squares_with_its_error():
    rng = np.random.default_rng(3)
    shared = rng.normal(1, 1, 8)
    d = 0.5 * shared + 0.2 * rng.normal(size=8)
    fit = stats.linregress(shared, d)
    own, error = own_parts(d[None], shared)
    assert (own[0], error[0]) == pytest.approx((fit.intercept, fit.intercept_stderr))


def test_equal_errors_up_to_chance_become_one_and_different_ones_stay():
    rng = np.random.default_rng(0)
    error = np.sqrt(rng.chisquare(3, 4000) / 3)
    assert moderated(error, 3) == pytest.approx(np.full(4000, 1.0), rel=0.1)
    wide = error * np.exp(2 * rng.normal(size=4000))
    assert np.corrcoef(np.log(moderated(wide, 3)), np.log(wide))[0, 1] > 0.95


def test_a_normal_prior_is_found_and_gives_the_posterior_of_the_textbook():
    """Effects of twice their error: own parts keep 4/5 of what was measured, with variance 4/5."""
    x = np.random.default_rng(1).normal(0, np.sqrt(5), 20_000)
    weights, mean, variance = posterior(x, np.ones(len(x)))
    ours = (weights * mean).sum(axis=1)
    second = (weights * (variance + mean**2)).sum(axis=1)
    inside = np.abs(x) < 4
    assert ours[inside] == pytest.approx(0.8 * x[inside], abs=0.25)
    assert np.mean(second - ours**2) == pytest.approx(0.8, abs=0.05)


def test_arms_that_collapse_keep_their_loss_and_do_not_widen_the_others():
    base, arms = lucky(40, noise=1.0)
    d = np.array(list(arms.values())) - base
    fallen = d[:4] - 50
    alone = shrink([str(i) for i in range(36)], d[4:])
    beside = shrink([str(i) for i in range(40)], np.concatenate([d[4:], fallen]))
    assert [a.shrunk for a in beside[36:]] == pytest.approx([a.raw for a in beside[36:]], rel=0.05)
    assert all(a.chance > 0.99 for a in beside[36:])
    assert np.mean([abs(a.shrunk) for a in beside[:36]]) < 1.5 * np.mean([abs(a.shrunk) for a in alone])


def test_luck_of_the_baseline_is_no_gain_of_any_arm():
    base, arms = lucky(60, luck=3.0, noise=0.5, seed=4)
    found = sweep_of(study_of(base, arms))
    raw = np.array([a.raw for a in found.shrunk])
    assert abs(raw.mean()) > 0.5
    assert np.abs([a.shrunk for a in found.shrunk]).max() < 0.2 * abs(raw.mean())


def test_a_method_that_fails_on_the_rows_of_a_study_is_not_shown(monkeypatch):
    base, arms = lucky(30)
    analysis = study_of(base, arms)
    found = sweep_of(analysis)
    assert found.halves.holds
    assert len(found.shrunk) == 30
    for worse in ({"error_shrunk": found.halves.error_raw * 1.01}, {"claimed": found.halves.held + 0.06}):
        monkeypatch.setattr("harness.analysis.sweep.validate", lambda _, worse=worse: replace(found.halves, **worse))
        assert sweep_of(analysis).shrunk == ()


def test_rows_that_are_far_from_the_model_fail_the_trial():
    """Differences with so long tails that the spread of half of the seeds says nothing of the other half."""
    assert not validate(np.random.default_rng(0).standard_cauchy((40, 10)) ** 3).holds


def test_too_few_seeds_for_halves_are_not_tried():
    base, arms = lucky(30, n=7)
    found = sweep_of(study_of(base, arms))
    assert (found.halves, found.shrunk) == (None, ())


@pytest.mark.parametrize(
    ("name", "mild_arms", "shared", "placebo", "correlation"),
    [("digits-all-tricks", 90, 0.54, 0.62, 0.61), ("digits-noisy-all-tricks", 90, 0.23, -0.76, 0.37)],
)
def test_the_published_sweeps_share_what_the_guide_says(published, name, mild_arms, shared, placebo, correlation):
    found: Sweep = published(name)
    assert found.mild_arms == mild_arms
    assert (found.shared.mean, found.placebo.mean, found.correlation) == pytest.approx(
        (shared, placebo, correlation), abs=0.005
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "raw", "predicted", "came"),
    [("digits-all-tricks", 1.44, 1.24, 1.31), ("digits-noisy-all-tricks", 2.84, 2.58, 2.61)],
)
def test_half_of_the_seeds_predicts_the_other_on_the_published_sweeps(published, name, raw, predicted, came):
    h = published(name).halves
    assert (h.raw, h.predicted, h.came) == pytest.approx((raw, predicted, came), abs=0.005)
    assert h.error_shrunk < h.error_raw
    assert abs(h.predicted - h.came) < 0.1 < h.raw - h.came
    assert abs(h.claimed - h.held) < 0.06
    assert abs(h.sure_claimed - h.sure_held) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("arms", [10, 100])
def test_the_interval_of_what_is_shared_covers_it(arms, n):
    """The middle half of true effects, which the baseline's luck shifts on average by nothing."""
    rng = np.random.default_rng([arms, n])
    covered = []
    for _ in range(4000):
        effects = np.sort(rng.standard_t(3, arms))
        d = effects[:, None] + rng.normal(size=n) + rng.normal(size=(arms, n))
        _, low, high = t_interval(middle(d, mild(d)))
        covered.append(low < effects[arms // 4 : arms - arms // 4].mean() < high)
    assert 0.93 <= np.mean(covered) <= 0.97
