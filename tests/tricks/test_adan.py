import pytest

from harness.testing import TrickConformance
from harness.tricks.optimization.adan import Adan
from updates import build, step, weight


class TestAdan(TrickConformance):
    trick = Adan


def test_two_updates_by_hand():
    """All betas one half, so the second bias corrections are 3/4; there is no change of g at the first update."""
    w = weight(0.0)
    optimizer = build(Adan(lr=0.1, weight_decay=0.0, beta1=0.5, beta2=0.5, beta3=0.5), [w])
    step(optimizer, [w], [[2.0]])
    assert float(w.detach()) == pytest.approx(-0.1)

    step(optimizer, [w], [[4.0]])
    m, d = (0.25 * 2 + 0.5 * 4) / 0.75, 0.5 * 2 / 0.75
    n = (0.25 * 2**2 + 0.5 * (4 + 0.5 * 2) ** 2) / 0.75
    assert float(w.detach()) == pytest.approx(-0.1 - 0.1 * (m + 0.5 * d) / n**0.5)


def test_decay_divides():
    w = weight(1.0)
    step(build(Adan(lr=0.1, weight_decay=0.5), [w]), [w], [[2.0]])

    assert float(w.detach()) == pytest.approx(0.9 / 1.05)
