import pytest
import torch

from harness.testing import TrickConformance
from harness.tricks.optimization.lamb import Lamb
from updates import build, step, weight


class TestLamb(TrickConformance):
    trick = Lamb


def test_an_update_is_as_long_as_the_rate_times_the_weights():
    w = weight([3.0, 4.0], [0.0, 12.0])
    before = w.detach().clone()
    optimizer = build(Lamb(lr=0.01, clip=1e9), [w])
    for g in ([[1.0, -2.0], [3.0, 0.5]], [[0.1, 0.0], [-7.0, 2.0]]):
        before = w.detach().clone()
        step(optimizer, [w], [g])
        assert float((w.detach() - before).norm()) == pytest.approx(0.01 * float(before.norm()), rel=1e-5)


def test_the_first_update_by_hand():
    """m and v, bias-corrected, are g and g^2, so u = sign(g) + wd w."""
    w = weight([3.0, 4.0])
    step(build(Lamb(lr=0.1, weight_decay=0.5, clip=1e9), [w]), [w], [[2.0, -2.0]])
    u = torch.tensor([1.0 + 1.5, -1.0 + 2.0], dtype=torch.float64)

    expected = torch.tensor([3.0, 4.0], dtype=torch.float64) - 0.1 * 5 * u / u.norm()
    torch.testing.assert_close(w.detach()[0], expected, rtol=1e-4, atol=0)


def test_without_decay_there_is_no_trust_ratio():
    w = weight([3.0, 4.0])
    step(build(Lamb(lr=0.1, clip=1e9), [w], weight_decay=0.0), [w], [[2.0, -2.0]])

    torch.testing.assert_close(w.detach()[0], torch.tensor([2.9, 4.1], dtype=torch.float64), rtol=1e-4, atol=0)


def test_gradients_are_clipped_together():
    """The second moment remembers a gradient of 100 as one of the limit, so a next small one moves further."""
    moved = []
    for clip in (1.0, 1e9):
        w = weight([1.0, 0.0])
        optimizer = build(Lamb(lr=0.1, clip=clip, weight_decay=0.0), [w])
        for g in ([[100.0, 0.0]], [[0.0, 0.5]]):
            step(optimizer, [w], [g])
        moved.append(float(optimizer.state[w]["exp_avg_sq"][0, 0]))

    assert moved == pytest.approx([0.999 * 0.001 * 1.0, 0.999 * 0.001 * 1e4])
