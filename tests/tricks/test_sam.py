import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.optimization.sam import Sam


class TestSam(TrickConformance):
    trick = Sam


def closure_of(run):
    return lambda batch: soft_cross_entropy(run.model(batch.x), batch.y).mean()


class Quadratic(nn.Module):
    """Loss w' A w / 2, with gradient A w."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))

    def loss(self):
        return 0.5 * self.w @ self.a @ self.w

    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_gradient_of_a_quadratic(scale):
    """A (w + rho A w / |A w|), whatever the scale of the loss that the precision asks for."""
    run = tiny_run()
    run.model = Quadratic()
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    run.backward = lambda loss: (loss * scale).backward()
    w, a = run.model.w.detach().clone(), run.model.a
    loss = Sam(rho=0.1).gradient(lambda _batch: run.model.loss(), tiny_batch(), run)

    torch.testing.assert_close(run.model.w.grad / scale, a @ (w + 0.1 * (a @ w) / (a @ w).norm()))
    torch.testing.assert_close(loss, 0.5 * w @ a @ w)
    assert torch.equal(run.model.w, w)


def test_rho_zero_is_the_plain_gradient():
    run, batch = tiny_run(), tiny_batch()
    run.model.train()
    loss = Sam(rho=0.0).gradient(closure_of(run), batch, run)
    plain = tiny_run()
    plain.model.train()
    expected = closure_of(plain)(batch)
    expected.backward()

    assert torch.equal(loss, expected.detach())
    for a, b in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_weights_come_back_to_the_bit_and_statistics_move_once():
    run, once = tiny_run(), tiny_run()
    batch = tiny_batch()
    before = [p.detach().clone() for p in run.model.parameters()]
    Sam(rho=0.5).gradient(closure_of(run), batch, run)
    once.model.train()(batch.x)

    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), before, strict=True))
    for a, b in zip(run.model.buffers(), once.model.buffers(), strict=True):
        assert torch.equal(a, b)
    run.model(batch.x)  # and they move again afterwards
    assert int(run.model.net.stem[1].num_batches_tracked) == 2


def test_second_pass_sees_batch_statistics_at_the_perturbed_weights():
    run, batch = tiny_run(), tiny_batch()
    losses = []

    def closure(b):
        losses.append(closure_of(run)(b))
        return losses[-1]

    returned = Sam(rho=0.1).gradient(closure, batch, run)
    assert len(losses) == 2
    assert torch.equal(returned, losses[0].detach())
    assert losses[1] > losses[0]  # the worst point nearby is worse
    assert not returned.requires_grad


def test_zero_gradient_moves_nothing():
    run = tiny_run()
    run.model = Quadratic()
    with torch.no_grad():
        run.model.w.zero_()
    Sam().gradient(lambda _batch: run.model.loss(), tiny_batch(), run)
    assert torch.equal(run.model.w.grad, torch.zeros(2, dtype=torch.float64))
