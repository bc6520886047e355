import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import gradient_norm
from harness.tricks.optimization.gradient_clipping import GradientClipping


class TestGradientClipping(TrickConformance):
    trick = GradientClipping


def clipped(trick, *grads):
    parameters = [torch.nn.Parameter(torch.zeros(len(g))) for g in grads]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = torch.tensor(g)
    on_gradients(trick, parameters)
    return parameters


def on_gradients(trick, parameters):
    run = tiny_run()
    trick.prepare(run)
    trick.on_gradients(parameters, run)


def test_norm_of_all_weights_together_by_hand():
    """Norm of (3, 0, 4) is 5; at a limit of 1 every entry is divided by 5."""
    got = clipped(GradientClipping(limit=1.0), [3.0, 0.0], [4.0])

    torch.testing.assert_close(got[0].grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(got[1].grad, torch.tensor([0.8]))


@pytest.mark.parametrize(("limit", "expected"), [(0.5, 0.5), (5.0, 5.0), (1e9, 13.0)])
def test_norm_afterwards_is_the_smaller_one(limit, expected):
    norm = gradient_norm(clipped(GradientClipping(limit=limit), [5.0, 12.0]))

    assert float(norm) == pytest.approx(expected, rel=1e-5)


def test_below_the_limit_nothing_changes():
    for kind in ("norm", "value"):
        (p,) = clipped(GradientClipping(limit=14.0, kind=kind), [5.0, -12.0])
        assert torch.equal(p.grad, torch.tensor([5.0, -12.0]))


def test_value_cuts_each_entry():
    (p,) = clipped(GradientClipping(limit=1.0, kind="value"), [0.5, -3.0, 2.0])

    assert p.grad.tolist() == [0.5, -1.0, 1.0]


@pytest.mark.parametrize("kind", ["norm", "value"])
def test_weights_without_gradient_stay_without(kind):
    used, unused = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(2))
    used.grad = torch.tensor([-3.0])
    on_gradients(GradientClipping(kind=kind), [used, unused])

    assert float(used.grad) == pytest.approx(-1.0, rel=1e-5)
    assert unused.grad is None
