import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.optimization.linear_decay import LinearDecay


class TestLinearDecay(TrickConformance):
    trick = LinearDecay


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_is_a_line_from_the_peak_to_the_final_rate(final):
    schedule = LinearDecay(final=final).schedule(tiny_run())

    assert [schedule(p) for p in (0.0, 0.25, 1.0)] == pytest.approx([1.0, 1 - 0.25 * (1 - final), final])


def test_agrees_with_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.2, total_iters=40)
    schedule = LinearDecay(final=0.2).schedule(tiny_run())

    for t in range(40):
        assert schedule(t / 40) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
