import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.regularization.orthogonal import Orthogonal, away_from_orthogonal


class TestOrthogonal(TrickConformance):
    trick = Orthogonal


def test_by_hand():
    assert float(away_from_orthogonal([torch.tensor([[1.0, 0.0], [1.0, 2.0]])])) == 2 * 1.0 + 16.0
    assert float(away_from_orthogonal([torch.tensor([[2.0], [0.0]])])) == 9.0  # the one column has length 2


@pytest.mark.parametrize("shape", [(4, 8), (8, 4), (4, 2, 3, 3)])
def test_orthogonal_weights_cost_nothing(shape):
    weight = torch.nn.init.orthogonal_(torch.empty(shape), generator=torch.Generator().manual_seed(0))
    assert float(away_from_orthogonal([weight])) == pytest.approx(0.0, abs=1e-9)


def test_matrices_and_kernels_are_penalised_and_vectors_are_not():
    run = tiny_run()
    term = Orthogonal(lam=0.5).loss_terms(tiny_batch(), torch.zeros(8, 10), run)["orthogonal"]
    term.backward()
    matrices = [p for p in run.model.parameters() if p.ndim > 1]
    assert float(term.detach()) == pytest.approx(0.5 * float(away_from_orthogonal(matrices).detach()))
    assert all((p.grad is not None) == (p.ndim > 1) for p in run.model.parameters())
