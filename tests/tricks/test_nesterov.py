import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.training.session import baseline_optimizer
from harness.tricks.contract import NoEffect, NotApplicable
from harness.tricks.optimization.nesterov import Nesterov


class TestNesterov(TrickConformance):
    trick = Nesterov
    recipe = {"nesterov": False}  # noqa: RUF012


def test_two_updates_by_hand():
    run = tiny_run(nesterov=False, lr=0.1, weight_decay=0.0)
    run.recipe = Nesterov(momentum=0.5).recipe(run.recipe, run.data)
    w = torch.nn.Parameter(torch.zeros(1))
    optimizer = baseline_optimizer([{"params": [w]}], run)
    for g, expected in ((1.0, -0.15), (2.0, -0.15 - 0.1 * (2.0 + 0.5 * 2.5))):
        w.grad = torch.full((1,), g)
        optimizer.step()
        assert float(w.detach()) == pytest.approx(expected)


def test_says_when_the_recipe_has_it_and_when_it_cannot():
    run = tiny_run(momentum=0.9, nesterov=True)
    with pytest.raises(NoEffect, match=r"has Nesterov's momentum of 0.9 already"):
        Nesterov().recipe(run.recipe, run.data)
    assert Nesterov(momentum=0.8).recipe(run.recipe, run.data).momentum == 0.8
    with pytest.raises(NotApplicable, match="optimizer is adamw"):
        Nesterov().recipe(tiny_run(optimizer="adamw").recipe, run.data)
