import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.optimization.asam import Asam


class TestAsam(TrickConformance):
    trick = Asam


A = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)


def gradient_of(w, rho, eta, scale=1.0):
    run = tiny_run()
    run.model = nn.Module()
    run.model.w = nn.Parameter(w.clone())
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    run.backward = lambda loss: (loss * scale).backward()
    Asam(rho=rho, eta=eta).gradient(lambda _batch: 0.5 * run.model.w @ A @ run.model.w, tiny_batch(), run)
    assert torch.equal(run.model.w.detach(), w)
    return run.model.w.grad / scale


def test_gradient_of_a_quadratic_whatever_the_scale_of_the_loss():
    w = torch.tensor([3.0, -4.0], dtype=torch.float64)
    g, t = A @ w, w.abs() + 0.01
    expected = A @ (w + 0.5 * t**2 * g / (t * g).norm())

    for scale in (1.0, 2.0**16):
        torch.testing.assert_close(gradient_of(w, 0.5, 0.01, scale), expected)


def test_the_step_up_scales_with_the_weights():
    """Without eta, weights c times as large are moved c times as far when the loss depends on w / c alone."""
    w, c = torch.tensor([3.0, -4.0], dtype=torch.float64), 10.0
    plain = torch.linalg.solve(A, gradient_of(w, 0.5, 0.0)) - w
    run = tiny_run()
    run.model = nn.Module()
    run.model.w = nn.Parameter(w * c)
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.1)
    seen = []

    def closure(_batch):
        seen.append(run.model.w.detach().clone())
        v = run.model.w / c
        return 0.5 * v @ A @ v

    Asam(rho=0.5, eta=0.0).gradient(closure, tiny_batch(), run)
    torch.testing.assert_close(seen[1] - seen[0], c * plain)


def test_rho_zero_is_the_plain_gradient():
    w = torch.tensor([3.0, -4.0], dtype=torch.float64)
    torch.testing.assert_close(gradient_of(w, 0.0, 0.01), A @ w)
