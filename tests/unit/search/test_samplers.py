"""Trials that are planned ahead."""

import math

from harness.tuning.samplers import planned
from harness.tuning.values import Value

RATE = Value("recipe.lr", 0.1, 0.01, 1.0, log=True)
HOLES = Value("cutout.n_holes", 1, 1, 3, integer=True)
FILL = Value("cutout.fill", "mean", choices=("mean", "black"))
LAYER = Value("mixup_latent.layer", None, 0, 2, integer=True)


def test_the_first_trial_is_the_default_whatever_the_sampler():
    for sampler in ("tpe", "gp", "random", "grid", "halton"):
        first = planned(sampler, [RATE, FILL, LAYER], 3, "s")[0]
        assert first == {"recipe.lr": 0.1, "cutout.fill": "mean"}, "None has no place in a range of numbers"


def test_samplers_that_learn_plan_no_more_than_the_default():
    assert [len(planned(s, [RATE], 9, "s")) for s in ("tpe", "gp", "random")] == [1, 1, 1]


def test_a_grid_has_equal_steps_and_every_choice():
    points = planned("grid", [RATE, FILL], 11, "s")[1:]

    assert {p["recipe.lr"] for p in points} == {0.01, 0.03162, 0.1, 0.3162, 1.0}
    assert len(points) == len({tuple(p.values()) for p in points}) == 10
    assert points != sorted(points, key=lambda p: p["recipe.lr"]), "in random order, so that a part of it is fair"


def test_a_grid_has_no_more_points_than_there_are():
    assert len(planned("grid", [HOLES, FILL], 30, "s")) == 1 + 6
    assert {p["cutout.n_holes"] for p in planned("grid", [HOLES, FILL], 30, "s")} == {1, 2, 3}


def test_a_small_part_of_a_grid_visits_no_cell_twice():
    points = planned("grid", [RATE, HOLES, FILL], 8, "s")[1:]

    assert len(points) == len({tuple(p.values()) for p in points}) == 7


def test_a_halton_sequence_is_even_and_longer_ones_begin_as_shorter_ones_do():
    points = planned("halton", [RATE, HOLES], 65, "s")
    rates = [math.log10(p["recipe.lr"]) for p in points[1:]]

    counts = [sum(-2 + i / 2 <= r < -1.5 + i / 2 for r in rates) for i in range(4)]
    assert counts == [16, 16, 16, 16], "64 points of a base-2 sequence fill each quarter of the log range alike"
    assert planned("halton", [RATE, HOLES], 9, "s") == points[:9]
    assert planned("halton", [RATE, HOLES], 9, "another arm") != points[:9]
