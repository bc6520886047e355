from dataclasses import replace

import pytest
import torch
from torch import nn

from draws import assert_share, assert_uniform
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial.fgsm_training import FgsmTraining, signed_step
from harness.tricks.functional import soft_cross_entropy


class TestFgsmTraining(TrickConformance):
    trick = FgsmTraining


class Linear(nn.Module):
    """Logits W x, so that a margin's gradient is a difference of rows of W."""

    def __init__(self, classes=3, pixels=64):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, pixels, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


def interior(n=4):
    """Pixels far from 0 and 1, where clipping does nothing."""
    batch = tiny_batch(n, classes=2)
    return replace(batch, x=0.4 + 0.2 * batch.x)


def closure_of(run, seen=None):
    def closure(batch):
        if seen is not None:
            seen.append(batch.x.detach())
        return soft_cross_entropy(run.model(batch.x), batch.y).mean()

    return closure


def gradients(run):
    return [p.grad.clone() for p in run.model.parameters()]


def test_margin_of_a_linear_model_falls_by_eps_times_the_one_norm():
    run, batch = tiny_run(), interior()
    run.model = Linear(classes=2)
    attacked = FgsmTraining(eps=0.05).attack(batch, run)
    w = run.model.weight[0] - run.model.weight[1]
    sign = 1 - 2 * batch.label.float()
    fall = sign * ((batch.x - attacked.x).flatten(1) @ w)

    torch.testing.assert_close(fall, (0.05 * w.abs().sum()).expand(4))


def test_step_by_hand_with_both_clips():
    x, start = torch.tensor([0.5, 0.98, 0.5]), torch.tensor([0.58, 0.98, 0.5])
    out = signed_step(x, start, torch.tensor([3.0, 0.1, -2.0]), step=0.1, eps=0.1)

    torch.testing.assert_close(out, torch.tensor([0.6, 1.0, 0.4]))


@pytest.mark.parametrize("start", ["clean", "random"])
@pytest.mark.parametrize(("channels", "radius"), [(1, 0.1), (3, 8 / 255)])
def test_changes_stay_within_the_radius_and_raise_the_loss(start, channels, radius):
    run, batch = tiny_run(channels=channels), tiny_batch(channels=channels)
    attacked = FgsmTraining(start=start).attack(batch, run)
    closure = closure_of(run)

    assert float((attacked.x - batch.x).abs().max()) == pytest.approx(radius, abs=1e-6)
    assert float(attacked.x.min()) >= 0
    assert float(attacked.x.max()) <= 1
    assert closure(attacked) > closure(batch)
    assert all(p.grad is None for p in run.model.parameters())


def test_radius_zero_is_the_plain_gradient_and_statistics_move_once():
    run, plain, batch = tiny_run(), tiny_run(), tiny_batch()
    loss = FgsmTraining(eps=0.0, mix=0.5).gradient(closure_of(run), batch, run)
    expected = closure_of(plain)(batch)
    expected.backward()

    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradients(run), gradients(plain))
    for a, b in zip(run.model.buffers(), plain.model.buffers(), strict=True):
        assert torch.equal(a, b)


def test_gradient_is_the_mixture_of_both_losses():
    run, batch, seen = tiny_run(), interior(), []
    run.model = Linear(classes=2)
    loss = FgsmTraining(eps=0.1, mix=0.25).gradient(closure_of(run, seen), batch, run)
    got = run.model.weight.grad.clone()
    clean, attacked = (soft_cross_entropy(run.model(x), batch.y).mean() for x in seen)
    expected = 0.25 * clean + 0.75 * attacked
    (grad,) = torch.autograd.grad(expected, run.model.weight)

    assert torch.equal(seen[0], batch.x)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(got, grad)


def test_without_a_clean_share_only_attacked_images_are_seen_and_counted():
    run, batch, seen = tiny_run(), tiny_batch(), []
    FgsmTraining(mix=0.0).gradient(closure_of(run, seen), batch, run)

    assert len(seen) == 1
    assert not torch.equal(seen[0], batch.x)
    assert int(run.model.net.stem[1].num_batches_tracked) == 1


def test_gradients_carry_the_scale_of_the_precision():
    run, plain, batch = tiny_run(), tiny_run(), tiny_batch()
    run.backward = lambda loss: (loss * 1024).backward()
    for r in (run, plain):
        FgsmTraining().gradient(closure_of(r), batch, r)
    torch.testing.assert_close([g / 1024 for g in gradients(run)], gradients(plain), rtol=1e-4, atol=1e-6)


def test_a_random_start_is_uniform_and_the_step_overshoots_by_a_quarter():
    """From u in ±eps a step of 1.25 eps up the loss, cut at eps: at eps for u > -eps / 4, which are 5 of 8."""
    run, batch = tiny_run(), interior(40)
    run.model = Linear(classes=2)
    change = FgsmTraining(eps=0.05, start="random").attack(batch, run).x - batch.x
    rise = torch.sign(FgsmTraining(eps=0.05).attack(batch, run).x - batch.x)
    along = (change * rise / 0.05).flatten()
    inside = along[along < 1 - 1e-4]

    assert_share(along >= 1 - 1e-4, 0.625)
    assert_uniform(inside, 0.25, 1.0)


def test_by_default_both_losses_count_half_and_the_start_is_the_image():
    assert (FgsmTraining().mix, FgsmTraining().start) == (0.5, "clean")
