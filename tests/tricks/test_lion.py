import pytest

from harness.testing import TrickConformance
from harness.tricks.optimization.lion import Lion
from updates import build, step, weight


class TestLion(TrickConformance):
    trick = Lion


def test_two_updates_by_hand():
    w = weight(1.0, -2.0)
    optimizer = build(Lion(lr=0.1, weight_decay=0.5, beta1=0.5, beta2=0.75), [w])
    step(optimizer, [w], [[3.0, -0.01]])  # sign(g); m = g / 4
    assert w.tolist() == pytest.approx([0.95 - 0.1, -1.9 + 0.1])

    step(optimizer, [w], [[-0.5, 1.0]])  # 0.5 * 0.75 - 0.25 > 0; -0.00125 + 0.5 > 0
    assert w.tolist() == pytest.approx([0.95 * 0.85 - 0.1, 0.95 * -1.8 - 0.1])


def test_every_coordinate_moves_by_the_rate():
    w = weight(0.0, 0.0, 0.0)
    step(build(Lion(lr=0.01), [w]), [w], [[1e-6, -5.0, 0.3]])

    assert w.tolist() == pytest.approx([-0.01, 0.01, -0.01])
