"""Trials and budgets on objectives that cost nothing; Optuna is real."""

import math
import threading

import optuna
import pytest

from harness.errors import UserError
from harness.tuning.objective import Score
from harness.tuning.peers import Peers
from harness.tuning.record import searched_arm, winner
from harness.tuning.trials import Tuner


def test_every_arm_gets_its_budget_and_begins_with_the_default(plan, searching):
    search = searching(plan(trials=5))

    assert [len(search.trials(i)) for i in (0, 1)] == [5, 5]
    assert search.trials(0)[0].params == {"recipe.lr": 0.2, "recipe.weight_decay": 0.005}
    assert search.trials(1)[0].params["mixup.alpha"] == 0.2
    assert search.complete


def test_tpe_finds_the_top_of_a_hill_within_its_budget(plan, searching):
    search = searching(plan(trials=40, overrides={"tricks": {"mixup": {"alpha": 6.0}}}))
    rate = winner(search.trials(0)).params["recipe.lr"]
    both = winner(search.trials(1)).params

    assert rate == pytest.approx(0.05, rel=0.25), "the default is 0.2"
    assert both["recipe.lr"] == pytest.approx(0.05, rel=0.5)
    assert both["mixup.alpha"] == pytest.approx(1.0, rel=0.6), "the default is 6"


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "grid", "halton"])
def test_the_same_search_gives_the_same_trials(plan, searching, listed, sampler):
    made = plan(trials=14 if sampler == "tpe" else 12 if sampler == "gp" else 6, sampler=sampler)
    first = searching(made)
    second = searching(made, storage=optuna.storages.InMemoryStorage())

    assert listed(first, 1) == listed(second, 1)
    assert listed(first, 0) != [t[:2] for t in listed(first, 1)]
    assert len({str(t[1]) for t in listed(first, 1)}) == made.trials, "no setting twice"


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(plan, searching, listed, hill):
    made = plan(trials=14)
    whole = searching(made)
    runs = []

    def stops(spec):
        runs.append(spec)
        if len(runs) in (9, 30):
            raise KeyboardInterrupt
        return hill(spec)

    storage = optuna.storages.InMemoryStorage()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            searching(made, stops, storage=storage)
    search = searching(made, stops, storage=storage)

    assert [listed(search, i) for i in (0, 1)] == [listed(whole, i) for i in (0, 1)]
    assert max(t.number for i in (0, 1) for t in search.trials(i)) > 13, "interrupted trials have new numbers"


def test_values_of_an_interrupted_trial_are_kept(plan, searching, hill):
    seen = []

    def stops_once(spec):
        seen.append(spec.recipe.lr)
        if len(seen) == 6:
            raise OSError("disk full")
        return hill(spec)

    made = plan("erm_baseline", trials=4, seeds=1, pruner="none")
    with pytest.raises(OSError, match="disk full"):
        searching(made, stops_once)
    searching(made, stops_once)

    assert seen[5] == seen[6]
    assert len(seen) == 2 * 4 + 1


def test_more_trials_can_be_asked_for_later(plan, searching, listed):
    for sampler in ("tpe", "halton"):
        storage = optuna.storages.InMemoryStorage()
        few = listed(searching(plan(trials=4, sampler=sampler), storage=storage), 1)
        many = searching(plan(trials=9, sampler=sampler), storage=storage)
        again = searching(plan(trials=4, sampler=sampler), storage=storage)

        assert listed(many, 1)[:4] == few
        assert len(listed(many, 1)) == 9
        assert listed(again, 1) == few, "the budget decides what counts, not what happens to be stored"


def test_a_search_with_other_settings_is_refused(plan, searching):
    searching(plan(trials=2))

    with pytest.raises(UserError, match=r"\(recipe.epochs was 80 and is 5\); choose another name with --name"):
        searching(plan(trials=2, overrides={"recipe": {"epochs": 5}}))
    with pytest.raises(UserError, match="seeds was 2 and is 3"):
        searching(plan(trials=2, seeds=3))
    with pytest.raises(UserError, match="sampler was tpe and is random"):
        searching(plan(trials=2, sampler="random"))


def test_a_bad_trial_is_pruned_and_never_wins(plan, searching):
    """The second trial is worse on each of its first four seeds, and best on its fifth."""
    made = plan("erm_baseline", trials=6, seeds=5, sampler="halton")
    rates = [p.get("recipe.lr") for p in made.arms[0].first]
    calls = []

    def evaluate(spec):
        calls.append((spec.recipe.lr, spec.seed))
        value = 0.8 + 0.001 * spec.seed
        if spec.recipe.lr == rates[1]:
            value = 0.99 if spec.seed == 4 else value - 0.3
        return Score("ok", "", {"accuracy": value})

    search = searching(made, evaluate)
    trial = search.trials(0)[1]

    assert trial.state.name == "PRUNED"
    assert trial.user_attrs["reason"] == "stopped after 4 of 5 seeds"
    assert trial.user_attrs["accuracy"] == pytest.approx([0.5, 0.501, 0.502, 0.503])
    assert (rates[1], 4) not in calls
    assert winner(search.trials(0)).number == 0
    kept = searched_arm(made, made.arms[0], search.trials(0))
    assert kept.trials[1].state == "pruned"
    assert kept.trials[1].values["accuracy"] == tuple(trial.user_attrs["accuracy"])
    assert kept.winner == 0


def test_a_pruned_trial_does_not_win_even_when_its_mean_is_the_highest(plan, searching):
    search = searching(plan("erm_baseline", trials=3))
    high = optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, value=5.0)

    assert winner([high, *search.trials(0)]).state.name == "COMPLETE"
    assert winner([high]) is None


def test_nothing_is_pruned_after_the_last_seed(plan, searching):
    """One seed a little better and three worse have p = 2/16, with a fourth worse one 2/32: too late to save a run."""
    made = plan("erm_baseline", trials=3, seeds=5, sampler="halton")

    def worse(spec):
        loss = 0.0 if spec.recipe.lr == 0.2 else -0.01 if spec.seed == 0 else 0.1 * spec.seed
        return Score("ok", "", {"accuracy": 0.9 - loss})

    assert made.pruner == "wilcoxon"
    assert {t.state.name for t in searching(made, worse).trials(0)} == {"COMPLETE"}


def test_a_diverged_seed_counts_as_accuracy_zero_and_the_trial_goes_on(plan, searching, hill):
    def diverges(spec):
        return Score("diverged", "loss is nan", {"accuracy": None}) if spec.seed == 1 else hill(spec)

    trial = searching(plan("erm_baseline", trials=1), diverges).trials(0)[0]

    assert trial.state.name == "COMPLETE"
    assert trial.user_attrs["accuracy"][1] == 0.0
    assert trial.value == pytest.approx(trial.user_attrs["accuracy"][0] / 2)


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_run_that_cannot_be_trained_fails_its_trial_with_the_reason(plan, searching, status):
    seeds = []

    def refuses(spec):
        seeds.append(spec.seed)
        return Score(status, "no such luck", {})

    made = plan("erm_baseline", trials=3, seeds=3)
    search = searching(made, refuses)
    kept = searched_arm(made, made.arms[0], search.trials(0))

    assert [t.state for t in kept.trials] == ["failed"] * 3
    assert kept.trials[0].reason == f"seed 0 {status}: no such luck"
    assert kept.winner is None
    assert set(seeds) == {0}, "the other seeds of a failed trial cost nothing"


def test_values_that_do_not_go_together_fail_the_trial_and_cost_no_run(plan, searching, hill):
    ranges = {"search": {"recipe.momentum": {"choices": [0.9, 0.0]}}}
    made = plan("erm_baseline", trials=6, sampler="grid", nuisance="momentum", overrides=ranges)
    seen = []
    search = searching(made, lambda spec: seen.append(spec.recipe.momentum) or hill(spec))
    states = {t.params["recipe.momentum"]: t for t in search.trials(0)}

    assert states[0.0].state.name == "FAIL"
    assert "nesterov needs momentum > 0" in states[0.0].user_attrs["reason"]
    assert set(seen) == {0.9}


def test_several_objectives_have_a_front_and_no_pruning(plan, searching):
    made = plan("erm_baseline", trials=6, sampler="halton", objectives="accuracy,seconds")
    rates = [p["recipe.lr"] for p in made.arms[0].first]
    points = dict(zip(rates, [(0.5, 5), (0.9, 9), (0.7, 3), (0.6, 4), (0.7, 2), (0.4, 2)], strict=True))

    def evaluate(spec):
        accuracy, seconds = points.get(spec.recipe.lr, (0.1, 9.0))
        return Score("ok", "", {"accuracy": accuracy, "seconds": seconds})

    search = searching(made, evaluate)
    kept = searched_arm(made, made.arms[0], search.trials(0))

    assert kept.front == (1, 4), "0.9 in 9 s, and 0.7 in 2 s; every other point is beaten on both"
    assert kept.winner == 1, "accuracy decides"
    assert kept.trials[4].values == {"accuracy": (0.7, 0.7), "seconds": (2.0, 2.0)}


def test_with_several_objectives_a_diverged_trial_fails(plan, searching):
    made = plan("erm_baseline", trials=1, objectives="accuracy,seconds")
    search = searching(made, lambda spec: Score("diverged", "nan", {"seconds": 0.1}))

    assert search.trials(0)[0].user_attrs["reason"] == "seed 0 diverged: nan"


def test_threads_share_the_budget_exactly(plan, searching, hill):
    made = plan("mixup", trials=9)
    lock, calls = threading.Lock(), []

    def counts(spec):
        with lock:
            calls.append((spec.arm.label, spec.recipe.lr, spec.seed))
        return hill(spec)

    search = searching(made, counts, workers=4)

    assert [len(search.trials(i)) for i in (0, 1)] == [9, 9]
    assert len(searching.done) == 18
    assert len(calls) == len(set(calls))


def test_two_trials_of_one_arm_are_under_way_at_once(plan, searching, hill):
    together = {label: threading.Barrier(2, timeout=600) for label in ("baseline", "erm_baseline")}

    def meets(spec):
        together[spec.arm.label].wait()
        return hill(spec)

    search = searching(plan("erm_baseline", trials=2), meets, workers=4)

    assert search.complete


def test_the_thread_that_ctrl_c_reaches_reads_nothing_while_others_write(plan, searching, hill):
    """A read of the main thread that Ctrl-C breaks off can leave SQLite locked for the others, who then never end."""
    begun, here = threading.Event(), []

    class Watched(optuna.storages.InMemoryStorage):
        def get_all_trials(self, *args, **kwargs):
            if begun.is_set() and threading.current_thread() is threading.main_thread():
                here.append(args)
            return super().get_all_trials(*args, **kwargs)

    def begins(spec):
        begun.set()
        return hill(spec)

    searching(plan(trials=3), begins, workers=2, storage=Watched())

    assert here == []
    assert max(done.ended for done in searching.done) == len(searching.done) == 6


def test_no_trial_begins_after_the_deadline(plan, searching):
    search = searching(plan(trials=3), deadline=-math.inf)

    assert search.trials(0) == []
    assert not search.complete


def test_arms_take_turns_so_that_a_search_that_ends_early_is_fair(plan, searching, hill):
    made = plan("mixup", trials=8)
    runs = []

    def stops(spec):
        runs.append(spec)
        if len(runs) == 15:
            raise KeyboardInterrupt
        return hill(spec)

    with pytest.raises(KeyboardInterrupt):
        searching(made, stops)
    search = searching(made, stops, deadline=-math.inf)

    assert abs(len(search.trials(0)) - len(search.trials(1))) <= 1
    assert len(search.trials(0)) >= 3


def test_a_trial_of_a_process_that_is_alive_is_left_alone(plan, searching, tmp_path, monkeypatch):
    made = plan("erm_baseline", trials=2, seeds=1, nuisance="lr", pruner="none")
    storage = optuna.storages.InMemoryStorage()
    alive = Peers(tmp_path)
    study = Tuner(made, storage, alive, None)._studies[0]
    trial = study.ask()
    trial.suggest_float("recipe.lr", 0.02, 2.0, log=True)
    trial.set_user_attr("process", alive.name)
    waits = Tuner._others_at_work

    def end_when_waited_for(search):
        found = waits(search)
        if found:
            study.tell(trial, 0.5)
            alive.leave()
            alive.close()
        return found

    monkeypatch.setattr(Tuner, "_others_at_work", end_when_waited_for)
    monkeypatch.setattr("harness.tuning.trials.POLL", 0.01)
    search = searching(made, storage=storage)

    assert [t.number for t in search.trials(0)] == [0, 1]
    assert search.trials(0)[0].value == 0.5, "its own process has ended it"


def test_a_trial_of_a_dead_process_is_begun_again_with_its_values(plan, searching, tmp_path):
    made = plan("erm_baseline", trials=3, seeds=1, nuisance="lr", pruner="none")
    storage = optuna.storages.InMemoryStorage()
    dead = Peers(tmp_path)
    study = Tuner(made, storage, dead, None)._studies[0]
    values = []
    for signed in (True, False):  # the second process died before it could put down its name
        trial = study.ask()
        values.append(trial.suggest_float("recipe.lr", 0.02, 2.0, log=True))
        if signed:
            trial.set_user_attr("process", dead.name)
    dead.close()
    search = searching(made, storage=storage)

    tried = [t.params["recipe.lr"] for t in search.trials(0)]
    assert sorted(tried[:2]) == sorted(values)
    assert len(tried) == 3
    assert not list(tmp_path.glob("process-*")), "nobody is left"
