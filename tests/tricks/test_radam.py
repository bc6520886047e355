import pytest

from harness.testing import TrickConformance
from harness.tricks.optimization.radam import Radam
from updates import build, step, weight


class TestRadam(TrickConformance):
    trick = Radam


def test_early_updates_are_momentum_and_late_ones_rectified_adam():
    """b2 = 0.9: rho = 19; rho_5 is the first above 5. A constant gradient makes every m and v, corrected, g and g^2."""
    w, g, rho = weight(0.0), 4.0, 19.0
    optimizer = build(Radam(lr=0.1, weight_decay=0.0, beta2=0.9), [w])
    rectified = []
    for t in range(1, 9):
        before = float(w.detach())
        step(optimizer, [w], [[g]])
        moved = (before - float(w.detach())) / 0.1
        r = rho - 2 * t * 0.9**t / (1 - 0.9**t)
        rectified.append(r > 5)
        ratio = ((r - 4) * (r - 2) * rho / ((rho - 4) * (rho - 2) * r)) ** 0.5 if r > 5 else 0.0
        assert moved == pytest.approx(ratio if r > 5 else g, rel=1e-6)
    assert set(rectified) == {False, True}


def test_decay_is_decoupled():
    w = weight(1.0)
    step(build(Radam(lr=0.1, weight_decay=0.5), [w]), [w], [[0.0]])

    assert float(w.detach()) == pytest.approx(0.95)
