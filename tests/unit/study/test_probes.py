"""The runs of a probe: the arm's own at a part of every learning rate, and nothing else of them changed."""

import pytest

from harness.experiment import Arm
from harness.study.probes import at_rate
from harness.testing import tiny_spec
from harness.tricks.contract import times
from harness.tricks.mixing.cutmix import Cutmix
from harness.tricks.optimization.adabound import Adabound
from harness.tricks.optimization.adamw import Adamw


def test_the_recipe_and_the_rates_of_tricks_are_lowered_and_nothing_else():
    spec = tiny_spec(lr=0.2)
    tricks = (Adabound(lr=3e-3, final_lr=0.1).spec(), Cutmix().spec())
    slow = at_rate(spec.model_copy(update={"arm": Arm(tricks=tricks)}), 1 / 10)
    adabound, cutmix = slow.arm.tricks

    assert slow.recipe == spec.recipe.model_copy(update={"lr": 0.02})
    assert adabound.params == tricks[0].params | {"lr": 3e-4, "final_lr": 0.01}
    assert cutmix == tricks[1]
    assert (slow.data, slow.model, slow.seed) == (spec.data, spec.model, spec.seed)


def test_a_probe_is_the_run_that_one_would_type():
    """`harness ablate adamw --set recipe.lr=0.02 --set adamw.lr=0.0003` finds it, so it is not 0.020000000000000004."""
    typed = tiny_spec(Adamw(lr=3e-4), lr=0.02)

    assert at_rate(tiny_spec(Adamw(lr=3e-3), lr=0.2), 1 / 10).run_id == typed.run_id


@pytest.mark.parametrize(("rate", "factor", "expected"), [(0.2, 1 / 3, 0.06667), (3.0, 1 / 3, 1.0), (1e-7, 0.1, 1e-8)])
def test_rates_have_four_digits(rate, factor, expected):
    assert times(rate, factor) == expected
