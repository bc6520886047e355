from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.testing import TrickConformance, tiny_run, tiny_spec
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks.contract import NoEffect
from harness.tricks.core.step_decay import StepDecay

NOWHERE = Place(data_root=Path("unused-by-digits"))


class TestStepDecay(TrickConformance):
    trick = StepDecay
    params = {"milestones": (0.3, 0.6, 0.9)}  # noqa: RUF012


def test_rate_after_the_kth_milestone_is_gamma_to_the_k():
    schedule = StepDecay(gamma=0.2, milestones=(0.3, 0.6)).schedule(tiny_run())

    assert [schedule(p) for p in (0.0, 0.29, 0.3, 0.59)] == pytest.approx([1, 1, 0.2, 0.2])
    assert [schedule(p) for p in (0.6, 0.99)] == pytest.approx([0.04, 0.04])


def test_exponential_falls_by_equal_factors_to_gamma():
    schedule = StepDecay(kind="exponential", gamma=0.01).schedule(tiny_run())

    assert [schedule(p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1, 0.01**0.25, 0.1, 0.01])


def test_refuses_what_would_be_ignored():
    with pytest.raises(ValidationError, match="no milestones"):
        StepDecay(kind="exponential", milestones=(0.2,))


def test_refuses_a_recipe_that_has_these_steps():
    recipe = {"schedule": "step", "milestones": (0.5, 0.75), "gamma": 0.1}

    with pytest.raises(NoEffect, match="step_decay leaves the learning rate as it is"):
        set_up(tiny_spec(StepDecay(), **recipe), NOWHERE)
    set_up(tiny_spec(StepDecay(gamma=0.2), **recipe), NOWHERE)
    set_up(tiny_spec(StepDecay(), schedule="constant"), NOWHERE)


def test_milestones_come_from_a_list_of_a_configuration_file():
    assert StepDecay(milestones=[0.2, 0.4]).milestones == (0.2, 0.4)
