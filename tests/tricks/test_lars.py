import pytest
import torch

from harness.testing import TrickConformance
from harness.tricks.optimization.lars import Lars
from updates import build, step, weight


class TestLars(TrickConformance):
    trick = Lars


def test_the_first_update_by_hand():
    """|w| = 5, |g| = 10, wd = 0.1: the trust ratio is eta 5 / (10 + 0.5)."""
    w = weight([3.0, 4.0])
    step(build(Lars(lr=2.0, weight_decay=0.1, trust=0.01), [w]), [w], [[6.0, 8.0]])
    rate = 2.0 * 0.01 * 5 / 10.5

    expected = [3.0 - rate * 6.3, 4.0 - rate * 8.4]
    assert w.detach()[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_the_update_does_not_depend_on_the_gradients_scale():
    moved = []
    for scale in (1.0, 1000.0):
        w = weight([3.0, 4.0])
        optimizer = build(Lars(weight_decay=1e-9), [w])
        for g in ([[6.0, 8.0]], [[-1.0, 2.0]]):
            step(optimizer, [w], [torch.tensor(g) * scale])
        moved.append(w.detach())

    torch.testing.assert_close(*moved, rtol=1e-6, atol=1e-9)


def test_without_decay_it_is_sgd_with_momentum():
    ours, theirs = weight([3.0, 4.0]), weight([3.0, 4.0])
    optimizers = build(Lars(lr=0.5), [ours], weight_decay=0.0), torch.optim.SGD([theirs], lr=0.5, momentum=0.9)
    for g in ([[6.0, 8.0]], [[-1.0, 2.0]], [[0.3, 0.1]]):
        step(optimizers[0], [ours], [g])
        step(optimizers[1], [theirs], [g])

    torch.testing.assert_close(ours, theirs)
