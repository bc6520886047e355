import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.regularization.l1 import L1, l1_norm


class TestL1(TrickConformance):
    trick = L1


def test_by_hand():
    assert float(l1_norm([torch.tensor([[1.0, -2.0]]), torch.tensor([-0.5])])) == 3.5


def test_penalises_matrices_and_kernels_by_the_sign():
    run = tiny_run()
    term = L1(lam=0.01).loss_terms(tiny_batch(), torch.zeros(8, 10), run)["l1"]
    term.backward()

    total = sum(float(p.detach().abs().sum()) for p in run.model.parameters() if p.ndim > 1)
    assert term.item() == pytest.approx(0.01 * total)
    for p in run.model.parameters():
        if p.ndim > 1:
            torch.testing.assert_close(p.grad, 0.01 * p.sign())
        else:
            assert p.grad is None
