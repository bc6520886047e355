from itertools import pairwise

import pytest

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.core.lr_warmup import LrWarmup
from harness.tricks.functional import constant, cosine, step


class TestLrWarmup(TrickConformance):
    trick = LrWarmup
    params = {"epochs": 0.5}  # noqa: RUF012


def factors(trick, schedule, run):
    wrapped = trick.wrap_schedule(schedule, run)
    return [wrapped(t / run.total_steps) for t in range(run.total_steps)]


def test_linear_ramp_by_hand():
    run = tiny_run(epochs=5, batch_size=40)  # two updates an epoch, four of warm-up
    got = factors(LrWarmup(epochs=2.0, start_factor=0.2), constant(), run)

    assert got == pytest.approx([0.4, 0.6, 0.8, 1.0, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [0.55, 1.0]), ("exp", [0.1**0.5, 1.0]), ("constant", [0.1, 0.1])],
)
def test_shapes_start_from_the_factor(shape, expected):
    run = tiny_run(epochs=3, batch_size=40)
    got = factors(LrWarmup(epochs=1.0, start_factor=0.1, shape=shape), constant(), run)

    assert got == pytest.approx([*expected, 1, 1, 1, 1])


def test_without_prefix_the_schedule_is_unchanged_afterwards_and_met_without_a_jump():
    run = tiny_run(epochs=10)  # ten updates an epoch
    main = cosine()
    got = factors(LrWarmup(epochs=2.0), main, run)

    assert got[20:] == [main(t / 100) for t in range(20, 100)]
    assert all(a < b for a, b in pairwise(got[:20]))
    assert abs(got[20] - got[19]) < got[1] - got[0]
    assert got[19] == main(0.2)


def test_with_prefix_the_schedule_spans_the_rest():
    run = tiny_run(epochs=10)
    main = step((0.5,), 0.1)
    got = factors(LrWarmup(epochs=2.0, prefix=True), main, run)

    assert got[19] == 1.0
    assert got[20:] == pytest.approx([1.0] * 40 + [0.1] * 40)


def test_no_warmup_is_the_identity():
    run = tiny_run()
    for prefix in (False, True):
        got = factors(LrWarmup(epochs=0.0, prefix=prefix), cosine(), run)
        assert got == [cosine()(t / run.total_steps) for t in range(run.total_steps)]


def test_a_fraction_of_an_update_does_not_overshoot():
    run = tiny_run(epochs=5, batch_size=40)
    assert factors(LrWarmup(epochs=1.25, start_factor=0.5), constant(), run)[:4] == pytest.approx([0.7, 0.9, 1.0, 1.0])


def test_refuses_a_run_that_is_not_longer():
    with pytest.raises(NotApplicable, match="5 epochs"):
        LrWarmup(epochs=5.0).wrap_schedule(constant(), tiny_run(epochs=5))
