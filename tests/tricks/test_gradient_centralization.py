import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.optimization.gradient_centralization import GradientCentralization, centralized


class TestGradientCentralization(TrickConformance):
    trick = GradientCentralization


def test_by_hand():
    g = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert centralized(g).tolist() == [[-2, -1, 3], [-1, -1, 2]]


def test_every_filter_loses_its_mean_and_vectors_stay():
    run, plain = tiny_run(), tiny_run()
    batch = tiny_batch()
    for r in (run, plain):
        (r.model.train()(batch.x) * batch.y).sum().backward()
    GradientCentralization().on_gradients(list(run.model.parameters()), run)

    for p, q in zip(run.model.parameters(), plain.model.parameters(), strict=True):
        if p.ndim == 1:
            assert torch.equal(p.grad, q.grad)
        else:
            mean = q.grad.flatten(1).mean(1)
            assert mean.abs().max() > 1e-4  # there was something to remove
            torch.testing.assert_close(p.grad.flatten(1).mean(1), torch.zeros_like(mean), atol=1e-5, rtol=0.0)
            torch.testing.assert_close(p.grad.flatten(1) + mean[:, None], q.grad.flatten(1), atol=1e-5, rtol=1e-5)


def test_twice_is_once():
    g = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(centralized(centralized(g)), centralized(g))


def test_parameters_without_gradient_are_left_alone():
    run = tiny_run()
    GradientCentralization().on_gradients(list(run.model.parameters()), run)
    assert all(p.grad is None for p in run.model.parameters())
