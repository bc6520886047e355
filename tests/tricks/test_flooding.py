import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.losses.flooding import Flooding, flood


class TestFlooding(TrickConformance):
    trick = Flooding


@pytest.mark.parametrize(("loss", "flooded", "slope"), [(0.3, 0.3, 1.0), (0.02, 0.18, -1.0), (0.1, 0.1, 0.0)])
def test_descends_above_and_ascends_below(loss, flooded, slope):
    x = torch.tensor(loss, requires_grad=True)
    out = flood(x, 0.1)
    out.backward()

    torch.testing.assert_close(out.detach(), torch.tensor(flooded))
    assert float(x.grad) == slope
    torch.testing.assert_close(out.detach(), torch.maximum(x.detach(), 0.2 - x.detach()))


def test_level_zero_changes_nothing_and_the_raw_loss_is_logged():
    run = tiny_run()
    loss = torch.tensor(0.02)

    assert torch.equal(Flooding(b=0.0).reduce_loss(loss, run), loss)
    torch.testing.assert_close(Flooding(b=0.05).reduce_loss(loss, run), torch.tensor(0.08))
    total, count = run.logged["loss/flooding.raw"]
    assert count == 2
    torch.testing.assert_close(total, torch.tensor(0.04))
