import math

import pytest
import torch
from timm.loss import JsdCrossEntropy

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.consistency.consistency_reg import ConsistencyReg, divergence
from harness.tricks.contract import NoEffect
from harness.tricks.images import random_view


class TestConsistencyReg(TrickConformance):
    trick = ConsistencyReg


def logits_of(*probabilities):
    return torch.tensor([probabilities]).log()


def test_divergences_by_hand():
    """p = (3/4, 1/4), q = (1/4, 3/4), with middle (1/2, 1/2)."""
    p, q = logits_of(0.75, 0.25), logits_of(0.25, 0.75)
    js = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)

    assert float(divergence(p, q, "kl")) == pytest.approx(0.5 * math.log(3))
    assert float(divergence(p, q, "js")) == pytest.approx(js)
    assert float(divergence(p, q, "mse")) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["kl", "js", "mse"])
def test_equal_predictions_cost_nothing_and_others_something(kind):
    z = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    assert float(divergence(z[0], z[0] + 3.0, kind)) == pytest.approx(0.0, abs=1e-6)
    assert float(divergence(z[0], z[1], kind)) > 0.01


def test_js_is_symmetric_and_at_most_ln_2():
    z = 100 * torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(divergence(z[0], z[1], "js"), divergence(z[1], z[0], "js"))
    opposite = torch.tensor([[100.0, -100.0]])
    assert float(divergence(opposite, -opposite, "js")) == pytest.approx(math.log(2))


def test_js_agrees_with_timm():
    """timm's is of three views by default, and of as many as are asked for; its weight is AugMix's 12."""
    p, q = 2 * torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(6, dtype=torch.long)
    whole = JsdCrossEntropy(num_splits=2, alpha=12, smoothing=0)(torch.cat((p, q)), label.repeat(2))
    torch.testing.assert_close(12 * divergence(p, q, "js"), whole - torch.nn.functional.cross_entropy(p, label))


@pytest.mark.parametrize(("kind", "weight", "stops"), [("kl", 1, True), ("js", 12, False), ("mse", 100, False)])
def test_weight_and_gradient_are_those_of_the_kinds_paper(kind, weight, stops):
    run, batch, seen = tiny_run(), tiny_batch(), []
    run.model.register_forward_hook(lambda _m, _args, out: seen.append(out.detach()))
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (term,) = ConsistencyReg(kind=kind).loss_terms(batch, logits, run).values()
    term.backward()

    torch.testing.assert_close(term, weight * divergence(logits, seen[0], kind))
    assert (logits.grad is None) == stops


def test_gradients_of_opposite_certain_predictions_are_finite():
    z = torch.tensor([[300.0, -300.0]], requires_grad=True)
    for kind in ("kl", "js", "mse"):
        (g,) = torch.autograd.grad(divergence(z, -z, kind), z)
        assert bool(torch.isfinite(g).all())


def test_view_shifts_whole_images_within_reach_and_fills_with_black():
    x = torch.arange(1.0, 65).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    views = random_view(x, 0.125, 0.0, torch.Generator().manual_seed(0))
    found = set()
    for view in views:
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                moved = torch.nn.functional.pad(x[0], (1, 1, 1, 1))[..., 1 - down : 9 - down, 1 - right : 9 - right]
                if torch.equal(view, moved):
                    found.add((down, right))
                    break
    assert len(found) == 9


def test_view_adds_noise_of_the_given_size():
    x = tiny_batch(200).x
    noise = random_view(x, 0.0, 0.2, torch.Generator().manual_seed(0)) - x
    assert float(noise.std()) == pytest.approx(0.2, rel=0.03)
    assert abs(float(noise.mean())) < 0.01


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_term_and_what_it_teaches(stop_gradient):
    """The term is the weighted divergence to the view's prediction; statistics stay; stopped sides get nothing."""
    trick = ConsistencyReg(weight=3.0, kind="mse", stop_gradient=stop_gradient)
    run, batch = tiny_run(), tiny_batch()
    run.model.train()
    before = {k: v.clone() for k, v in run.model.named_buffers()}
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    seen = []
    handle = run.model.register_forward_hook(lambda _m, args, out: seen.append((args[0], out.detach())))
    (term,) = trick.loss_terms(batch, logits, run).values()
    handle.remove()
    term.backward()
    ((x, view),) = seen

    torch.testing.assert_close(term, 3.0 * divergence(logits, view, "mse"))
    assert x.shape == batch.x.shape
    assert not torch.equal(x, batch.x)
    assert (logits.grad is None) == stop_gradient
    assert bool(run.model.head.weight.grad.any())
    assert all(torch.equal(v, before[k]) for k, v in run.model.named_buffers())


def test_refuses_a_view_that_is_the_image():
    bears_none = tiny_info()._replace(invariances=tiny_info().invariances._replace(shift=0.0))
    with pytest.raises(NoEffect, match="the view is the image"):
        ConsistencyReg(noise=0.0).prepare(tiny_run(info=bears_none))
    ConsistencyReg(noise=0.0).prepare(tiny_run())
    ConsistencyReg(noise=0.1).prepare(tiny_run(info=bears_none))
