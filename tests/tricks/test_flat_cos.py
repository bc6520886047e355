import pytest

from harness.testing import TrickConformance, tiny_run
from harness.tricks.core.cosine_decay import CosineDecay
from harness.tricks.optimization.flat_cos import FlatCos


class TestFlatCos(TrickConformance):
    trick = FlatCos


def test_is_flat_and_then_half_a_cosine():
    schedule = FlatCos(start=0.6, final=0.1).schedule(tiny_run())

    assert [schedule(p) for p in (0.0, 0.3, 0.6)] == [1.0, 1.0, 1.0]
    assert schedule(0.8) == pytest.approx(0.55)
    assert schedule(1.0) == pytest.approx(0.1)


def test_a_fall_from_the_start_is_cosine_decay():
    run = tiny_run()
    flat, cosine = FlatCos(start=0.0, final=0.0).schedule(run), CosineDecay().schedule(run)

    assert [flat(t / 9) for t in range(9)] == pytest.approx([cosine(t / 9) for t in range(9)])
