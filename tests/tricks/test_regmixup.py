import copy

import pytest
import torch

from draws import assert_beta, recorded
from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.mixing import regmixup as module
from harness.tricks.mixing.regmixup import RegMixup
from harness.tricks.stack import Stack


class TestRegMixup(TrickConformance):
    trick = RegMixup


def closure_of(trick, run, seen):
    stack = Stack([trick])

    def closure(both):
        logits = run.model(both.x)
        seen.append((both, logits.detach()))
        return stack.weigh(soft_cross_entropy(logits, both.y), both, logits, run).mean()

    return closure


def stepped(trick, run, batch):
    seen = []
    closure = closure_of(trick, run, seen)
    return trick.gradient(closure, batch, run), seen[0]


@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_loss_is_that_of_the_images_and_eta_times_that_of_the_mixtures(eta):
    run, batch = tiny_run(), tiny_batch(8)
    loss, (both, logits) = stepped(RegMixup(eta=eta), run, batch)
    clean, mixed = soft_cross_entropy(logits, both.y).chunk(2)

    assert torch.equal(both.x[:8], batch.x)
    assert torch.equal(both.y[:8], batch.y)
    torch.testing.assert_close(loss, clean.mean() + eta * mixed.mean())


def test_a_probe_of_the_loss_sees_the_images_alone():
    run, batch, seen = tiny_run(), tiny_batch(7), []
    loss = closure_of(RegMixup(), run, seen)(batch)
    torch.testing.assert_close(loss.detach(), soft_cross_entropy(seen[0][1], batch.y).mean())


def test_mixtures_are_mixups(monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "mixup"), tiny_run(), tiny_batch(8)
    _, (both, _) = stepped(RegMixup(), run, batch)
    ((_, partner, weight),) = calls
    torch.testing.assert_close(both.x[8:], weight * batch.x + (1 - weight) * batch.x[partner])
    torch.testing.assert_close(both.y[8:], weight * batch.y + (1 - weight) * batch.y[partner])
    assert sorted(partner.tolist()) == list(range(8))


@pytest.mark.parametrize(("params", "alpha"), [({}, 10.0), ({"alpha": 0.5}, 0.5)])
def test_weights_have_a_beta_distribution(params, alpha, monkeypatch):
    calls, run, batch = recorded(monkeypatch, module, "mixup"), tiny_run(), tiny_batch(2)
    monkeypatch.setattr(run, "backward", lambda loss: None)
    for _ in range(1000):
        RegMixup(**params).gradient(lambda both: both.x.sum(), batch, run)
    assert_beta([weight for _, _, weight in calls], alpha)


def test_a_mixture_with_itself_doubles_the_gradient(monkeypatch):
    run, batch = tiny_run(), tiny_batch(8)
    plain = copy.deepcopy(run.model)
    monkeypatch.setattr(module, "mixup", lambda batch, partner, weight: batch)
    stepped(RegMixup(), run, batch)
    (2 * soft_cross_entropy(plain(batch.x), batch.y).mean()).backward()
    for (name, p), q in zip(run.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_refuses_another_mixer():
    with pytest.raises(UserError, match="its first term needs images as they are"):
        Stack([RegMixup(), registry.make("cutmix")])
