import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.rezero import Gain, Rezero


class TestRezero(TrickConformance):
    trick = Rezero


def applied():
    run = tiny_run()
    return Rezero().model(run.model, run).train()


def test_blocks_start_as_the_identity():
    h = torch.rand(4, 4, 8, 8)
    assert torch.equal(applied().net.stage1[0](h), h)


def test_gains_of_one_give_the_plain_network():
    model, x = applied(), tiny_batch().x
    for gain in (m for m in model.modules() if isinstance(m, Gain)):
        gain.gain.data.fill_(1.0)
    torch.testing.assert_close(model(x), tiny_run().model.train()(x))


def test_gains_learn_first_and_branches_after_them():
    model = applied()
    model(tiny_batch().x).square().sum().backward()
    gains = [m.gain for m in model.modules() if isinstance(m, Gain)]
    assert len(gains) == 2
    assert all(gain.shape == () and float(gain.grad.abs()) > 0 for gain in gains)
    assert float(model.net.stage1[0].conv2.weight.grad.abs().sum()) == 0
