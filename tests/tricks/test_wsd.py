import pytest

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.linear_decay import LinearDecay
from harness.tricks.optimization.wsd import Wsd


class TestWsd(TrickConformance):
    trick = Wsd


def test_rises_holds_and_falls():
    run = tiny_run()  # 100 updates
    schedule = Wsd(warmup=0.1, decay=0.2).schedule(run)

    assert [schedule(t / 100) for t in (0, 4, 9, 10, 79, 80)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 1.0])
    assert [schedule(t / 100) for t in (85, 90, 99)] == pytest.approx([0.75, 0.5, 0.05])


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.5), ("1-sqrt", 1 - 0.5**0.5), ("cosine", 0.5)])
def test_the_middle_of_the_fall(shape, middle):
    schedule = Wsd(warmup=0.0, decay=0.4, shape=shape).schedule(tiny_run())

    assert schedule(0.8) == pytest.approx(middle)
    assert schedule(1.0) == pytest.approx(0.0, abs=1e-9)


def test_a_fall_over_all_of_training_is_linear_decay():
    run = tiny_run()
    wsd, line = Wsd(warmup=0.0, decay=1.0).schedule(run), LinearDecay().schedule(run)

    assert [wsd(t / 9) for t in range(9)] == pytest.approx([line(t / 9) for t in range(9)])


def test_shares_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"warmup = 0.5 and decay = 0.6 .* at most 1"):
        Wsd(warmup=0.5, decay=0.6)
