import pytest

from harness.testing import TrickConformance
from harness.tricks.optimization.nadamw import Nadamw
from updates import build, step, weight


class TestNadamw(TrickConformance):
    trick = Nadamw


def test_the_first_update_by_hand():
    """m and v are g (1 - b1) and g^2 (1 - b2); mu_1 and mu_2 are b1 (1 - 0.96^(0.004 t) / 2)."""
    w = weight(1.0)
    step(build(Nadamw(lr=0.1, weight_decay=0.2), [w]), [w], [[3.0]])
    mu1, mu2 = (0.9 * (1 - 0.5 * 0.96 ** (t * 0.004)) for t in (1, 2))
    move = (1 - mu1) / (1 - mu1) + mu2 * 0.1 / (1 - mu1 * mu2)

    assert float(w.detach()) == pytest.approx(1.0 * (1 - 0.02) - 0.1 * move)


def test_decay_does_not_pass_through_the_moments():
    moved = []
    for decay in (0.0, 0.5):
        w = weight(1.0)
        optimizer = build(Nadamw(lr=0.1, weight_decay=decay), [w])
        step(optimizer, [w], [[1.0]])
        moved.append(float(w.detach()))

    assert moved[0] - moved[1] == pytest.approx(0.05)
