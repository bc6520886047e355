import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.distillation.rkd import Rkd, angles, distances


class TestRkd(TrickConformance):
    trick = Rkd


def test_distances_by_hand():
    found = distances(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]]))  # 5, 8 and 5: the mean is 6
    expected = torch.tensor([[0.0, 5.0, 8.0], [5.0, 0.0, 5.0], [8.0, 5.0, 0.0]]) / 6
    torch.testing.assert_close(found, expected)


def test_angles_by_hand():
    found = angles(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
    assert float(found[0, 1, 2]) == pytest.approx(0.0, abs=1e-6)  # a right angle at the first
    assert float(found[1, 0, 2]) == pytest.approx(1 / 5**0.5)
    assert float(found[0, 1, 1]) == pytest.approx(1.0)


def test_relations_stay_when_features_are_moved_turned_and_scaled():
    f = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    g = 3 * f @ turn + 7
    torch.testing.assert_close(distances(g), distances(f), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(angles(g), angles(f), rtol=1e-3, atol=1e-3)


def test_terms_are_the_losses_against_the_teachers_features():
    run, trick, batch = tiny_run(), Rkd(distance=2.0, angle=3.0), tiny_batch()
    run.model = trick.model(run.model, run).train()
    trick.prepare(run)
    with torch.no_grad():
        _, taught = run.state["rkd"]["teacher"].forward_with_features(batch.x)
    logits, own = run.model.forward_with_features(batch.x)
    trick.reduce_loss(logits.sum(), run)
    terms = trick.loss_terms(batch, logits, run)
    torch.testing.assert_close(terms["distance"], 2 * F.smooth_l1_loss(distances(own), distances(taught)))
    torch.testing.assert_close(terms["angle"], 3 * F.smooth_l1_loss(angles(own), angles(taught)))
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in run.model.net.stem.parameters())


def test_weights_of_zero_are_refused():
    run = tiny_run()
    with pytest.raises(NoEffect, match="leave the loss"):
        Rkd(distance=0.0, angle=0.0).model(run.model, run)
