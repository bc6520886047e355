"""What a search would do, and what it refuses to do."""

import pytest

from harness.errors import UserError
from harness.experiment import Arm, load_experiment, spec_of


def test_the_baseline_and_every_arm_have_the_same_number_of_trials(plan):
    made = plan("mixup", "ema+cutout", "mixup", trials=12)

    assert [(a.label, a.trials) for a in made.arms] == [("baseline", 12), ("mixup", 12), ("cutout+ema", 12)]
    assert made.arms[0].tricks == ()
    assert made.search == "digits-search-cutout+ema-mixup"


def test_fresh_seeds_are_never_tuning_seeds(plan):
    assert plan(seeds=5, fresh=3).tuning_seeds == (0, 1, 2, 3, 4)
    assert plan(seeds=5, fresh=3).fresh_seeds == (5, 6, 7)
    assert len(plan(fresh=None).fresh_seeds) == len(load_experiment("digits").study.blocks)


def test_an_arm_with_nothing_to_search_has_one_trial_and_a_note(plan):
    made = plan("mixup", trials=9, nuisance="none")

    assert [a.trials for a in made.arms] == [1, 9]
    assert "baseline has nothing to search, so its default values are its only trial." in made.notes


def test_a_search_of_nothing_is_refused(plan):
    with pytest.raises(UserError, match="erm_baseline: nothing to search"):
        plan("erm_baseline", nuisance="none")


def test_a_grid_that_is_smaller_than_the_budget_says_so(plan):
    made = plan("no_bias_decay", nuisance="none", sampler="grid", trials=9)

    assert [a.trials for a in made.arms] == [1, 4], "the default, and a grid of three choices"
    assert "no_bias_decay: the grid has 4 different settings, and 9 trials were asked for." in made.notes


def test_the_most_runs_are_all_trials_on_all_seeds_and_two_settings_on_fresh_seeds(plan):
    assert plan(trials=30, seeds=5, fresh=10).most_runs == {"baseline": 170, "mixup": 170}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sampler": "tep"}, "--sampler tep: unknown; did you mean 'tpe'? Known: tpe, gp"),
        ({"pruner": "median"}, "--pruner median: unknown. Known: wilcoxon, none"),
        ({"objectives": "accuracy,latency"}, "--objectives latency: unknown"),
        ({"objectives": "seconds,accuracy"}, "accuracy comes first"),
        ({"objectives": "accuracy,seconds", "pruner": "wilcoxon"}, "trials are pruned on one objective only"),
        ({"sampler": "gp", "pruner": "wilcoxon"}, "learns from complete trials only"),
        ({"seeds": 4, "pruner": "wilcoxon"}, "--pruner wilcoxon: it needs 4 seeds to tell"),
        ({"name": "../mine"}, "study name '../mine'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(plan, options, expected):
    with pytest.raises(UserError) as error:
        plan(**options)

    assert expected in str(error.value)


def test_a_clash_inside_an_arm_is_refused_before_anything_runs(plan):
    with pytest.raises(UserError, match="cutmix \\+ mixup: "):
        plan("mixup+cutmix")


def test_the_pruner_is_left_out_where_it_cannot_work(plan):
    assert plan(seeds=5).pruner == "wilcoxon"
    assert plan(seeds=5, pruner="none").pruner == "none"
    assert plan(seeds=4).pruner == "none"
    assert plan(seeds=5, objectives="accuracy,memory").pruner == "none"
    assert plan(seeds=5, sampler="gp").pruner == "none"


def test_default_trials_are_the_runs_of_an_ordinary_study(plan):
    made = plan("mixup")
    spec = made.settings(made.arms[0])

    assert spec["recipe"]["lr"] == 0.2
    assert {k: spec[k] for k in ("data", "model")} == {
        k: v for k, v in made.settings(made.arms[1]).items() if k in ("data", "model")
    }
    assert spec_of(made.experiment, Arm(), 0).run_id == spec_of(load_experiment("digits"), Arm(), 0).run_id
