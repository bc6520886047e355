import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import constant, step
from harness.tricks.optimization.batch_size_schedule import BatchSizeSchedule


class TestBatchSizeSchedule(TrickConformance):
    trick = BatchSizeSchedule


def test_rate_over_batch_is_the_schedules_and_the_rate_falls_only_beyond_the_limit():
    trick, run = BatchSizeSchedule(limit=8), tiny_run()
    plain = step((0.5, 0.75), 0.2)
    changed = trick.wrap_schedule(plain, run)

    assert [changed(p) for p in (0.0, 0.5, 0.75)] == pytest.approx([1.0, 1.0, 8 * 0.04])
    assert [run.state["batch_size_schedule"]["k"][t] for t in (0, 50, 75)] == [1, 5, 8]
    for t in range(100):
        k = run.state["batch_size_schedule"]["k"][t]
        assert changed(t / 100) / k == pytest.approx(plain(t / 100))


def test_updates_take_the_mean_gradient_of_k_batches():
    trick, run = BatchSizeSchedule(limit=10), tiny_run()  # 100 updates
    trick.wrap_schedule(step((0.5,), 1 / 3), run)
    w = torch.nn.Parameter(torch.zeros(1))
    optimizer = trick.wrap_optimizer(torch.optim.SGD([w], lr=1.0), run)
    walk = []
    for run.step in (48, 49, 50, 51, 52, 53, 54, 55):
        w.grad = torch.full((1,), float(run.step))
        optimizer.step()
        walk.append(-float(w.detach()))

    assert walk == pytest.approx([48, 97, 97, 97, 97 + 51, 148, 148, 148 + 54])


def test_a_schedule_that_stays_makes_no_batch_grow():
    with pytest.raises(NoEffect, match=r"never halves the rate"):
        BatchSizeSchedule().wrap_schedule(constant(), tiny_run())
