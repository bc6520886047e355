"""Interactions against numbers worked out by hand, planted effects, and another library."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from pyDOE3 import fracfact
from scipy import stats

from harness.analysis.interactions import (
    GREEDILY,
    aliases,
    analyse_design,
    factorial_effects,
    greedy_order,
    leave_one_out_effects,
    one_at_a_time_effects,
    order_range,
    shapley,
    steps,
    synergy,
)
from harness.errors import UserError
from harness.testing import make_arm, make_manifest, make_row

MAIN = {"a": 2.0, "b": -1.0, "c": 0.5, "d": 0.0}


def table(effects, names="abcd", arms=None, seeds=3, noise=0.0):
    """Values of all arms (or of `arms`, rows of 0 and 1); `effects` maps "a" or "a:b" to what is added when on."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for on in arms if arms is not None else product([0, 1], repeat=len(names)):
            state = dict(zip(names, map(int, on), strict=True))
            added = sum(v for term, v in effects.items() if all(state[f] for f in term.split(":")))
            rows.append({"seed": seed, **state, "value": 90 + seed + added + noise * rng.standard_normal()})
    return pd.DataFrame(rows)


def means(estimates):
    return {e.name: e.mean for e in estimates}


def test_an_additive_table_has_its_main_effects_and_no_interactions():
    fit = factorial_effects(table(MAIN))

    assert means(fit.main) == MAIN
    assert all(e.mean == 0 and e.p == 1 and e.low == e.high == 0 for e in fit.interactions)
    assert len(fit.interactions) == 6
    assert fit.r_squared == pytest.approx(1)
    assert fit.aliases == fit.not_estimable == ()


def test_a_planted_interaction_is_found_in_noise():
    fit = factorial_effects(table(MAIN | {"a:b": -2.0}, seeds=8, noise=0.7))

    # An interaction of -2 with both on lowers each average effect by 1.
    truth = {"a": 1.0, "b": -2.0, "c": 0.5, "d": 0.0, "a:b": -2.0}
    assert all(abs(e.mean - truth.get(e.name, 0.0)) < 4 * e.se for e in (*fit.main, *fit.interactions))
    assert [e.name for e in fit.interactions if e.p_holm < 0.05] == ["a:b"]
    # 16 arms of 8 seeds: what is left is the noise.
    explained = 4 * (1.0 + 4.0 + 0.25) / 16 + 4.0 / 16
    assert fit.r_squared == pytest.approx(explained / (explained + 0.7**2), abs=0.1)


def test_intervals_hold_the_truth_as_often_as_they_say_where_effects_differ_between_seeds():
    values = table({"a": 2.0, "b": -1.0}, "ab", seeds=5)
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        own = rng.standard_normal(5)[values["seed"]] * values["a"]
        fit = factorial_effects(values.assign(value=values["value"] + own + rng.normal(0, 0.2, len(values))), alpha=0.1)
        held.append((fit.main[0].low < 2 < fit.main[0].high, fit.interactions[0].low < 0 < fit.interactions[0].high))

    assert np.mean(held, axis=0) == pytest.approx([0.9, 0.9], abs=0.05)


def test_each_block_is_fitted_as_by_another_library_and_the_unit_is_the_block():
    values = table(MAIN | {"a:b": -1.0}, names="abcd", seeds=4, noise=1.0).drop(index=3)  # in the first block
    fit = factorial_effects(values)
    half = values[values["seed"] > 0].assign(**{f: values[f] - 0.5 for f in "abcd"})
    blocks = pd.DataFrame([smf.ols("value ~ (a + b + c + d)**2", g).fit().params for _, g in half.groupby("seed")])

    for e in (*fit.main, *fit.interactions):
        test = stats.ttest_1samp(blocks[e.name], 0)
        interval = test.confidence_interval()
        assert e.n == 3
        assert (e.mean, e.p) == pytest.approx((blocks[e.name].mean(), test.pvalue))
        assert (e.low, e.high) == pytest.approx((interval.low, interval.high))


def test_published_accuracies_of_cutout_and_mixup_do_not_add_up():
    # Pre-activation ResNet-20 on CIFAR-10: alone +0.69 and +0.83, together +0.78.
    accuracy = [91.88, 92.57, 92.71, 92.66]
    values = pd.DataFrame({"seed": 0, "cutout": [0, 1, 0, 1], "mixup": [0, 0, 1, 1], "value": accuracy})

    assert synergy(values, "cutout", "mixup").mean == pytest.approx(-0.74)
    fit = factorial_effects(values)
    assert means(fit.interactions) == pytest.approx({"cutout:mixup": -0.74})
    assert means(fit.main) == pytest.approx({"cutout": 0.32, "mixup": 0.46})
    assert math.isnan(fit.main[0].p)  # one block
    assert shapley(values).loc[0].to_dict() == pytest.approx({"cutout": 0.32, "mixup": 0.46})


def test_synergy_is_paired_by_seed():
    values = table({"a": 1.0, "b": 1.0, "a:b": -0.5}, names="ab", seeds=5)
    found = synergy(values, "b", "a")

    assert (found.mean, found.low, found.high, found.n) == (-0.5, -0.5, -0.5, 5)
    with pytest.raises(UserError, match="a, b and a\\+b"):
        synergy(values[values["a"] + values["b"] < 2], "a", "b")


def test_shapley_values_add_up_to_the_full_stack_in_every_block():
    values = table(MAIN | {"a:b": -2.0, "a:c:d": 1.5}, seeds=4, noise=1.0)
    stack = values[(values[list("abcd")] == 1).all(axis=1)].set_index("seed")["value"]
    base = values[(values[list("abcd")] == 0).all(axis=1)].set_index("seed")["value"]

    assert shapley(values).sum(axis=1).to_numpy() == pytest.approx((stack - base).to_numpy())


def test_shapley_values_share_an_interaction_equally():
    credit = shapley(table({"a": 2.0, "b": 1.0, "a:b": -1.0, "a:b:c": 3.0}, names="abc"))

    assert credit.iloc[0].to_dict() == pytest.approx({"a": 2 - 0.5 + 1, "b": 1 - 0.5 + 1, "c": 1.0})


def test_shapley_values_leave_out_blocks_with_a_missing_arm():
    values = table(MAIN)

    assert list(shapley(values.drop(index=0)).index) == [1, 2]
    with pytest.raises(UserError, match="1 did not run \\(a\\+b\\)"):
        shapley(values[~((values["a"] == 1) & (values["b"] == 1) & (values["c"] + values["d"] == 0))])


def test_of_many_missing_arms_three_are_named():
    values = table(MAIN)
    with pytest.raises(UserError, match=r"need all 16 sets .*: 11 did not run \(a\+b, a\+c, a\+d, \.\.\.\)"):
        shapley(values[values[list("abcd")].sum(axis=1) < 2])
    with pytest.raises(UserError, match=r": 3 did not run \(a\+b, a\+c, a\+d\)"):
        shapley(values[(values[list("abcd")].sum(axis=1) != 2) | (values["a"] == 0)])


def test_credit_depends_on_the_order_of_stacking():
    values = table({"a": 2.0, "b": 1.0, "a:b": -1.5, "c": 1.0}, "abc")
    found = {r.name: r for r in order_range(values)}

    assert {name: (r.least.mean, r.most.mean) for name, r in found.items()} == {
        "a": (0.5, 2.0), "b": (-0.5, 1.0), "c": (1.0, 1.0),
    }  # fmt: skip
    assert "b" not in found["a"].most.name
    assert "b" in found["a"].least.name.split("+")


def test_the_extremes_of_credit_have_intervals_over_blocks():
    values = table({"a": 2.0, "b": 1.0, "a:b": -1.5}, "ab")
    alone = (values["a"] == 1) & (values["b"] == 0)
    values.loc[alone, "value"] += values.loc[alone, "seed"].map({0: -1.0, 1: 0.0, 2: 1.0})
    most = next(r.most for r in order_range(values) if r.name == "a")

    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert (most.mean, most.n) == (2.0, 3)
    assert (most.low, most.high) == pytest.approx((2 - half, 2 + half))


def test_the_greedy_order_takes_the_largest_gain_first():
    values = table({"a": 2.0, "b": 1.9, "a:b": -1.5, "c": 1.0}, "abc")

    assert greedy_order(values) == ("a", "c", "b")
    assert greedy_order(values, higher_is_better=False) == ("c", "b", "a")


def test_alone_left_out_and_step_by_step():
    values = table({"a": 2.0, "b": 1.0, "a:b": -1.5, "c": 1.0}, "abc")

    assert means(one_at_a_time_effects(values)) == {"a": 2.0, "b": 1.0, "c": 1.0}
    assert means(leave_one_out_effects(values)) == {"a": 0.5, "b": -0.5, "c": 1.0}
    assert means(steps(values, ["b", "c", "a"])) == {"b": 1.0, "c": 1.0, "a": 0.5}


def test_effects_whose_arms_did_not_run_are_left_out():
    values = table(MAIN, arms=[(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 1), (1, 0, 0, 0)])

    assert means(leave_one_out_effects(values)) == {"a": 2.0}
    assert means(one_at_a_time_effects(values)) == {"a": 2.0}
    assert means(steps(values, ["a", "b", "c", "d"])) == {"a": 2.0}


def test_p_values_of_a_table_are_corrected_together():
    values = table(MAIN, seeds=6, noise=0.5)
    ordered = sorted(one_at_a_time_effects(values), key=lambda e: e.p)

    assert ordered[0].p_holm == pytest.approx(4 * ordered[0].p)
    assert ordered[1].p_holm == pytest.approx(max(3 * ordered[1].p, ordered[0].p_holm))


def test_aliases_of_the_half_fraction_of_four():
    assert aliases(fracfact("a b c abc"), "abcd") == ["a:b = c:d", "a:c = b:d", "a:d = b:c"]
    assert aliases((fracfact("a b c abc") + 1) / 2, "abcd") == ["a:b = c:d", "a:c = b:d", "a:d = b:c"]


def test_aliases_of_other_designs():
    assert aliases(fracfact("a b c"), "abc") == []
    assert aliases(fracfact("a b ab"), "abc") == ["a = b:c", "b = a:c", "c = a:b"]
    assert aliases(fracfact("a b -ab"), "abc") == ["a = -b:c", "b = -a:c", "c = -a:b"]
    assert aliases([[0, 1], [1, 1]], "ab") == ["1 = b", "a = a:b"]


def test_the_half_fraction_recovers_main_effects_and_sums_of_interactions():
    arms = fracfact("a b c abc") > 0
    additive = factorial_effects(table(MAIN, arms=arms))
    fit = factorial_effects(table(MAIN | {"a:b": -2.0, "c:d": 0.5}, arms=arms))

    assert means(additive.main) == MAIN
    assert means(fit.interactions) == {"a:b = c:d": -1.5, "a:c = b:d": 0.0, "a:d = b:c": 0.0}
    assert fit.aliases == ("a:b = c:d", "a:c = b:d", "a:d = b:c")
    assert means(fit.main) == {"a": 1.0, "b": -2.0, "c": 0.75, "d": 0.25}


def test_an_opposite_pair_of_interactions_is_estimated_as_their_difference():
    arms = fracfact("a b c -abc") > 0
    fit = factorial_effects(table({"a:b": 3.0, "c:d": 1.0}, arms=arms))

    assert means(fit.interactions)["a:b = -c:d"] == pytest.approx(2.0)


def test_main_effects_that_cannot_be_told_from_interactions_are_not_estimated():
    fit = factorial_effects(table({"a": 1.0}, "abc", arms=fracfact("a b ab") > 0))

    assert fit.main == fit.interactions == ()
    assert fit.aliases == ("a = b:c", "b = a:c", "c = a:b")


def test_two_factors_that_are_only_seen_together_are_aliases():
    fit = factorial_effects(table({"a": 1.0}, "ab", arms=[(0, 0), (1, 1)]))

    assert (fit.main, fit.aliases, fit.not_estimable) == ((), ("a = b",), ("a:b",))
    with pytest.raises(UserError, match="at least two arms"):
        factorial_effects(table({"a": 1.0}, "ab", arms=[(0, 0)]))


def test_factors_that_never_meet_have_no_interaction_and_keep_their_effects():
    arms = [on for on in product([0, 1], repeat=3) if not (on[0] and on[1])]
    fit = factorial_effects(table({"a": 2.0, "b": 1.0, "c": 0.5, "a:c": -1.0}, "abc", arms=arms))

    assert fit.not_estimable == ("a:b",)
    # Averaged over both states of c, with the other one of a and b off.
    assert means(fit.main)["a"] == pytest.approx(1.5)
    assert means(fit.main)["b"] == pytest.approx(1.0)
    assert means(fit.interactions) == pytest.approx({"a:c": -1.0, "b:c": 0.0})


def test_what_only_a_sum_of_several_effects_is_known_of_is_not_estimated():
    arms = [on for on in product([0, 1], repeat=3) if sum(on) != 2 or on == (1, 1, 0)]
    fit = factorial_effects(table({"a": 2.0, "b": 1.0, "a:b": 1.0}, "abc", arms=arms))

    assert not fit.aliases
    # What a does with c on was seen only where b was on too.
    assert set(fit.not_estimable) == {"a", "b", "a:c", "b:c"}
    assert means(fit.main) | means(fit.interactions) == pytest.approx({"c": 0.0, "a:b": 1.0})


SEEDS = range(6)


def study(design, factors, arms, notes=()):
    plans = [
        make_arm("+".join(sorted(a)) or "baseline", SEEDS, tricks={t: {} for name in a for t in name.split("+")})
        for a in arms
    ]
    return make_manifest(plans, SEEDS, design=design, factors=tuple(factors), notes=notes)


def stored(manifest, value, validation=None):
    """Rows of every run; `value(tricks, seed)` is the test accuracy in points."""
    rows = []
    for arm in manifest.arms:
        for seed in arm.run_ids:
            accuracy = value(set(arm.tricks), seed) / 100
            selected = accuracy if validation is None else validation(set(arm.tricks), seed) / 100
            rows.append(make_row(arm, seed, test_accuracy=accuracy, val_accuracy=selected, test_nll=None))
    return pd.DataFrame(rows)


def subsets(names):
    return [tuple(n for n, on in zip(names, row, strict=True) if on) for row in product([0, 1], repeat=len(names))]


def worth(tricks, seed):
    return 90 + seed / 10 + 2 * ("a" in tricks) + 1 * ("b" in tricks) - 1.5 * ({"a", "b"} <= tricks)


def test_a_factorial_study_is_analysed_in_points():
    manifest = study("factorial", "ab", subsets("ab"), notes=("Note.",))
    found = analyse_design(stored(manifest, worth), manifest)

    assert (found.unit, found.factors, found.notes[0]) == ("points", ("a", "b"), "Note.")
    assert means(found.one_at_a_time) == pytest.approx({"a": 2.0, "b": 1.0})
    assert means(found.leave_one_out) == pytest.approx({"a": 0.5, "b": -0.5})
    assert means(found.shapley) == pytest.approx({"a": 1.25, "b": 0.25})
    assert means(found.fit.main) == pytest.approx({"a": 1.25, "b": 0.25})
    assert means(found.interactions) == pytest.approx({"a:b": -1.5})
    assert found.interactions[0].n == len(SEEDS)
    order = {r.name: [(e.name, e.mean) for e in (r.least, r.most)] for r in found.order}
    assert order == {"a": [("b", 0.5), ("", 2.0)], "b": [("a", -0.5), ("", 1.0)]}
    assert means(found.steps) == pytest.approx({"a": 2.0, "b": -0.5})


def test_the_order_of_the_steps_comes_from_the_validation_split():
    manifest = study("factorial", "ab", subsets("ab"))
    runs = stored(manifest, worth, validation=lambda tricks, _: 80 + 3 * ("b" in tricks) + ("a" in tricks))
    found = analyse_design(runs, manifest)

    assert [s.name for s in found.steps] == ["b", "a"]
    assert means(found.steps) == pytest.approx({"b": 1.0, "a": 0.5})


@pytest.mark.parametrize(
    ("design", "arms", "note"),
    [
        ("factorial", subsets("ab"), "Note."),
        ("cumulative", [(), ("a",), ("a", "b")], f"The order a, b {GREEDILY}."),
    ],
)
def test_steps_in_a_chosen_order_are_said_to_flatter_what_comes_first(design, arms, note):
    manifest = study(design, "ab", arms, notes=(note,))
    found = analyse_design(stored(manifest, worth), manifest)

    assert found.notes[0] == note
    assert "flatter the tricks that come first" in found.notes[1]
    assert f"`harness replicate {manifest.study}` runs the arms on fresh seeds" in found.notes[1]


def test_steps_in_the_order_asked_for_flatter_nothing():
    manifest = study("cumulative", "ab", [(), ("a",), ("a", "b")], notes=("Note.",))

    assert analyse_design(stored(manifest, worth), manifest).notes == ("Note.",)


def test_a_factor_may_be_a_combination():
    manifest = study("factorial", ["a+x", "b"], subsets(["a+x", "b"]))
    found = analyse_design(stored(manifest, worth), manifest)

    assert means(found.one_at_a_time) == pytest.approx({"a+x": 2.0, "b": 1.0})


def test_pairs_have_synergies_with_all_else_off():
    manifest = study("pairs", "abc", [s for s in subsets("abc") if len(s) < 3])
    found = analyse_design(stored(manifest, worth), manifest)

    assert found.fit is None
    assert found.shapley == found.steps == found.leave_one_out == ()
    assert means(found.interactions) == pytest.approx({"b:c": 0.0, "a:c": 0.0, "a:b": -1.5})


def test_a_cumulative_study_has_steps_in_the_order_given():
    manifest = study("cumulative", "ba", [(), ("b",), ("a", "b")])
    found = analyse_design(stored(manifest, worth), manifest)

    assert [s.name for s in found.steps] == ["b", "a"]
    assert means(found.steps) == pytest.approx({"b": 1.0, "a": 0.5})
    assert found.interactions == ()


def test_an_incomplete_factorial_says_what_is_missing():
    manifest = study("factorial", "ab", [s for s in subsets("ab") if len(s) < 2])
    found = analyse_design(stored(manifest, worth), manifest)

    assert found.shapley == found.order == found.steps == ()
    assert means(found.fit.main) == pytest.approx({"a": 2.0, "b": 1.0})
    assert "a:b" in found.notes[0]
    assert "1 did not run (a+b)" in found.notes[1]


def test_a_study_without_rows_and_one_without_factors():
    manifest = study("factorial", "ab", subsets("ab"))
    runs = stored(manifest, worth)
    found = analyse_design(runs.assign(status="failed"), manifest)

    assert found.fit is None
    assert found.one_at_a_time == found.shapley == ()
    assert "0 arms finished" in found.notes[0]
    assert analyse_design(runs, manifest.model_copy(update={"factors": ()})) is None


def test_another_metric_is_not_scaled_to_points():
    manifest = study("factorial", "ab", subsets("ab"))
    runs = stored(manifest, worth).assign(test_nll=lambda r: r["test_accuracy"])
    found = analyse_design(runs, manifest, "test_nll")

    assert not found.higher_is_better
    assert means(found.one_at_a_time) == pytest.approx({"a": 0.02, "b": 0.01})


def test_sums_that_cancel_are_zero_in_spite_of_rounding():
    fit = factorial_effects(table({"a": 0.1, "b": 0.2}, "ab", seeds=7))

    assert means(fit.main) == pytest.approx({"a": 0.1, "b": 0.2})
    assert means(fit.interactions) == {"a:b": 0.0}


def test_the_standard_error_of_an_estimate_by_hand():
    """b - a is 1, 2 and 6 in three blocks: mean 3, deviation sqrt(7), so that the error is sqrt(7 / 3)."""
    values = pd.DataFrame(
        [{"seed": s, "a": a, "value": 10.0 + a * d} for s, d in enumerate((1.0, 2.0, 6.0)) for a in (0, 1)]
    )
    (found,) = one_at_a_time_effects(values)

    assert (found.mean, found.se) == pytest.approx((3.0, math.sqrt(7 / 3)))
