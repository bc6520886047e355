import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.lookahead import Lookahead


class TestLookahead(TrickConformance):
    trick = Lookahead


def test_a_constant_gradient_walks_k_steps_and_goes_half_the_way_back():
    run, trick = tiny_run(), Lookahead(k=5, alpha=0.5)
    run.model = torch.nn.Linear(1, 1, bias=False)
    run.model.weight.data.zero_()
    trick.prepare(run)
    walk = []
    for run.step in range(1, 11):
        run.model.weight.data += 1.0
        trick.after_step(run)
        walk.append(float(run.model.weight.detach()))

    assert walk == pytest.approx([1, 2, 3, 4, 2.5, 3.5, 4.5, 5.5, 6.5, 5.0])


def test_every_parameter_is_drawn_back_to_its_own_start():
    run, trick = tiny_run(), Lookahead(k=2, alpha=0.25)
    start = [p.detach().clone() for p in run.model.parameters()]
    trick.prepare(run)
    for run.step in (1, 2):
        for i, p in enumerate(run.model.parameters()):
            p.data += i + 1
        trick.after_step(run)

    for i, (p, old) in enumerate(zip(run.model.parameters(), start, strict=True)):
        torch.testing.assert_close(p.detach(), old + 0.25 * 2 * (i + 1))
