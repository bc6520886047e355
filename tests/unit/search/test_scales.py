"""Ranges are spread on the scale on which the value acts, and what a sampler picks is what is trained."""

import math
from itertools import pairwise

import optuna
import pytest

from harness.testing import tiny_run
from harness.tricks import registry
from harness.tricks.contract import Search
from harness.tuning.samplers import make_sampler, planned
from harness.tuning.space import picked, suggest
from harness.tuning.values import Value
from harness.values import SCALES

DECAY = Value("ema.decay", 0.99, 0.9, 0.9999, log1m=True)
POINTS = [i / 19 for i in range(20)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("x", [0.1, 0.5, 0.999])
def test_each_scale_has_its_inverse(scale, x):
    even, back = SCALES[scale]
    assert back(even(x)) == pytest.approx(x, rel=1e-12)


def test_equal_steps_on_the_scale_multiply_the_memory_of_a_mean():
    """From 10 to 10,000 steps of memory in three steps of a factor ten."""
    assert [DECAY.at(i / 3) for i in range(4)] == [0.9, 0.99, 0.999, 0.9999]
    memories = [1 / (1 - DECAY.at(s)) for s in POINTS]
    assert [b / a for a, b in pairwise(memories)] == pytest.approx([1000 ** (1 / 19)] * 19, rel=1e-3)


def test_grids_and_sequences_fill_that_scale():
    grid = {p["ema.decay"] for p in planned("grid", [DECAY], 5, "arm")[1:]}
    halton = [p["ema.decay"] for p in planned("halton", [DECAY], 301, "arm")[1:]]

    assert grid == {0.9, 0.99, 0.999, 0.9999}
    assert [sum(low < d <= low + 0.9 * (1 - low) for d in halton) for low in (0.9, 0.99, 0.999)] == pytest.approx(
        [100] * 3, abs=5
    )


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_samplers_pick_on_that_scale_and_the_first_trial_is_the_default(sampler):
    study = optuna.create_study()
    study.enqueue_trial(picked([DECAY], {"ema.decay": 0.99}))
    found = []
    for turn in range(60):
        study.sampler = make_sampler(sampler, turn, "arm")
        trial = study.ask()
        found.append(suggest([DECAY], trial)["ema.decay"])
        assert DECAY.used(trial.params["1 - ema.decay"]) == found[-1], "the record reads what was trained"
        study.tell(trial, 1.0)

    assert found[0] == 0.99
    assert all(0.9 <= d <= 0.9999 for d in found)
    assert min(d for d in found) < 0.95
    assert sum(d > 0.99 for d in found) > 20, "on a linear scale six would be expected"
    assert len(set(found)) == 60


def test_values_can_be_typed():
    assert DECAY.used(1 - 0.99123456789) == 0.991235
    assert DECAY.record() == {
        "low": 0.9, "high": 0.9999, "log": False, "log1m": True, "integer": False, "default": 0.99
    }  # fmt: skip
    assert str(DECAY) == "ema.decay: 0.9 to 0.9999 (log(1 - x)); default 0.99"


def ranges():
    """All ranges of numbers of all cards."""
    for name in sorted(registry.builtin()):
        for key, field in registry.load(name).model_fields.items():
            yield from ((name, key, field, mark) for mark in field.metadata if isinstance(mark, Search))


def test_what_acts_by_its_distance_to_one_is_searched_on_that_scale():
    found = {(name, key) for name, key, _, mark in ranges() if mark.log1m}

    assert found >= {("ema", "decay"), ("weighted_ce", "beta"), ("adam", "beta2"), ("adamw", "beta2")}
    wide = {(name, key) for name, key, _, mark in ranges() if mark.high > 0.985 and mark.high < 1 and mark.low >= 0.5}
    assert wide <= found


def values_of(mark, field):
    """Twenty values spread over a range; fewer where only whole numbers count."""
    integer = "int" in str(field.annotation)
    value = Value("x", None, mark.low, mark.high, mark.log, integer, log1m=mark.log1m)
    return list(dict.fromkeys(value.at(s) for s in POINTS))


SCHEDULES = {
    ("cosine_decay", "final"): {},
    ("cyclical_lr", "base"): {},
    ("cyclical_lr", "cycles"): {},
    ("cyclical_lr", "end"): {"mode": "exp_range"},
    ("lr_warmup", "epochs"): {},
    ("lr_warmup", "start_factor"): {},
    ("sgdr_warm_restarts", "cycles"): {},
    ("sgdr_warm_restarts", "final"): {},
    ("snapshot_ensemble", "cycles"): {},
    ("step_decay", "gamma"): {},
    ("stochastic_weight_averaging", "start"): {},
    ("stochastic_weight_averaging", "swa_lr"): {},
    ("warmup_cosine", "epochs"): {},
    ("warmup_cosine", "final"): {},
    ("warmup_cosine", "start_factor"): {},
}
"""Every range that changes the learning rate over training, with what it needs beside it."""


@pytest.mark.parametrize(("name", "key"), SCHEDULES)
def test_every_value_of_a_range_gives_a_schedule_of_its_own(name, key):
    run = tiny_run(epochs=40)
    mark, field = next((m, f) for n, k, f, m in ranges() if (n, k) == (name, key))

    def factors(value):
        trick = registry.make(name, {key: value, **SCHEDULES[name, key]})
        cls = type(trick)
        wraps = "wrap_schedule" in vars(cls)
        schedule = trick.wrap_schedule(lambda progress: 0.5 + 0.4 * math.cos(3 * progress), run) if wraps else (
            trick.schedule(run)
        )  # fmt: skip
        return tuple(round(schedule(t / run.total_steps), 9) for t in range(run.total_steps))

    values = values_of(mark, field)
    assert len({factors(v) for v in values}) == len(values)


def test_every_restart_that_a_search_tries_ends_its_last_cycle_with_the_training():
    mark, field = next((m, f) for n, k, f, m in ranges() if (n, k) == ("sgdr_warm_restarts", "cycles"))
    for t_mult in (1, 2):
        for cycles in values_of(mark, field):
            trick = registry.make("sgdr_warm_restarts", {"cycles": cycles, "t_mult": t_mult})
            schedule = trick.schedule(tiny_run())
            assert schedule(1 - 1e-6) < 1e-6
            points = [schedule(i / 9999) for i in range(9999)]
            assert sum(b - a > 0.5 for a, b in pairwise(points)) == cycles - 1
