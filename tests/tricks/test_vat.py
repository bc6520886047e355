import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial.vat import Vat, divergence, unit


class TestVat(TrickConformance):
    trick = Vat


def test_directions_have_a_root_mean_square_of_one():
    d = unit(torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(d.square().mean((1, 2, 3)), torch.ones(3))


def test_a_linear_networks_direction_is_that_of_the_largest_change():
    """Two classes: the prediction depends on w x alone, w the difference of the weights, so d is along w."""
    run = tiny_run()
    linear = nn.Linear(64, 2)
    run.model.net = nn.Sequential(nn.Flatten(), linear)
    x = 0.5 + 0.01 * torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    d = Vat(xi=0.05).direction(x, run.model(x).detach(), run)
    w = (linear.weight[0] - linear.weight[1]).detach()
    cosine = nn.functional.cosine_similarity(d.flatten(1), w[None], dim=1).abs()
    assert float(cosine.min()) > 0.999


def test_the_direction_changes_predictions_more_than_chance_does():
    run, x = tiny_run(width=16), tiny_batch().x
    run.model.eval()
    logits = run.model(x).detach()
    ours, random = Vat(power=2).direction(x, logits, run), unit(torch.randn(x.shape))
    changes = [divergence(logits, run.model(x + 0.07 * d)) for d in (ours, random)]
    assert changes[0] > 3 * changes[1]


def test_the_clean_prediction_is_held_fixed():
    run, batch = tiny_run(), tiny_batch()
    logits = run.model.train()(batch.x)
    logits.retain_grad()
    term = Vat(weight=2.0).loss_terms(batch, logits, run)["smooth"]
    term.backward()
    assert logits.grad is None
    assert run.model.head.weight.grad.abs().sum() > 0
    assert term.item() == pytest.approx(2 * Vat(weight=1.0).loss_terms(batch, logits, run)["smooth"].item(), rel=1.0)
