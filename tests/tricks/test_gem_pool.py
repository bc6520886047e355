import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.gem_pool import GemPool, GemPooling, generalised_mean
from harness.tricks.contract import NoEffect


class TestGemPool(TrickConformance):
    trick = GemPool


def test_by_hand_and_between_average_and_maximum():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert float(generalised_mean(x, 3.0)) == pytest.approx(25 ** (1 / 3))  # (1 + 8 + 27 + 64) / 4
    assert float(generalised_mean(x, 1.0)) == pytest.approx(2.5)
    assert float(generalised_mean(x, 60.0)) == pytest.approx(4.0, rel=0.03)


def test_an_exponent_of_one_gives_the_plain_network():
    run, x = tiny_run(), tiny_batch().x
    model = GemPool(p=1.0).model(run.model, run)
    torch.testing.assert_close(model(x), tiny_run().model(x), rtol=1e-4, atol=1e-4)
    with pytest.raises(NoEffect, match="the average of the baseline"):
        GemPool(p=1.0, learn=False).model(run.model, run)


@pytest.mark.parametrize("learn", [True, False])
def test_the_exponent_learns_where_it_should(learn):
    run = tiny_run()
    model = GemPool(learn=learn).model(run.model, run)
    (pool,) = (m for m in model.modules() if isinstance(m, GemPooling))
    model(tiny_batch().x).square().sum().backward()
    assert (pool.p.grad is not None) == learn
    assert pool.p.item() == 3.0


def test_slopes_are_finite_at_zero_and_timm_takes_it():
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    generalised_mean(x, 3.0).sum().backward()
    assert x.grad.isfinite().all()
    run = tiny_run(channels=3, size=32, model="timm/resnet18", width=None)
    assert GemPool().model(run.model, run)(torch.rand(2, 3, 32, 32)).shape == (2, 10)
