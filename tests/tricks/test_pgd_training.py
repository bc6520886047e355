from dataclasses import replace

import pytest
import torch
from torch import nn

from draws import assert_uniform
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.adversarial import pgd_training as module
from harness.tricks.adversarial.fgsm_training import FgsmTraining
from harness.tricks.adversarial.pgd_training import PgdTraining, direction, project
from harness.tricks.functional import soft_cross_entropy


class TestPgdTraining(TrickConformance):
    trick = PgdTraining
    params = {"k": 2}  # noqa: RUF012


@torch.no_grad()
def loss_of(run, x, y):
    return float(soft_cross_entropy(run.model(x), y).mean())


def test_projections_by_hand_and_idempotent():
    change = torch.tensor([[3.0, 4.0], [0.3, -0.4]])
    torch.testing.assert_close(project(change, 1.0, "l2"), torch.tensor([[0.6, 0.8], [0.3, -0.4]]))
    assert torch.equal(project(change, 1.0, "linf"), torch.tensor([[1.0, 1.0], [0.3, -0.4]]))
    for norm in ("linf", "l2"):
        once = project(change, 1.0, norm)
        torch.testing.assert_close(project(once, 1.0, norm), once)


def test_directions_have_unit_length():
    g = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    torch.testing.assert_close(direction(g, "l2"), torch.tensor([[0.6, -0.8], [0.0, 0.0]]))
    assert torch.equal(direction(g, "linf"), torch.tensor([[1.0, -1.0], [0.0, 0.0]]))


def test_one_full_step_from_the_image_is_fgsm():
    run, batch = tiny_run(), tiny_batch()
    pgd = PgdTraining(k=1, step=1.0, start="clean", attack_mode="train").batch(batch, run)
    fgsm = FgsmTraining().attack(batch, run)

    torch.testing.assert_close(pgd.x, fgsm.x)


class Convex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 64, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_loss_never_falls_on_a_convex_example(norm):
    """The cross-entropy of a linear model is convex in x, so every step from the image climbs."""
    run, batch = tiny_run(), tiny_batch()
    run.model = Convex()
    attacks = [PgdTraining(k=k, start="clean", norm=norm, eps=0.2).batch(batch, run) for k in range(1, 8)]
    losses = [loss_of(run, b.x, b.y) for b in (batch, *attacks)]

    assert losses == sorted(losses)
    assert losses[-1] > losses[0] + 0.1


@pytest.mark.parametrize(("norm", "channels", "radius"), [("linf", 1, 0.1), ("linf", 3, 8 / 255), ("l2", 1, 0.5)])
def test_images_stay_in_the_ball_and_in_range(norm, channels, radius):
    run, batch = tiny_run(channels=channels), tiny_batch(channels=channels)
    attacked = PgdTraining(norm=norm).batch(batch, run)
    change = (attacked.x - batch.x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)

    assert float(size.max()) <= radius + 1e-6
    assert float(size.min()) > radius / 2
    assert float(attacked.x.min()) >= 0
    assert float(attacked.x.max()) <= 1
    assert torch.equal(attacked.y, batch.y)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_spread_over_the_ball(norm):
    """Without steps that count: coordinates of the start have mean zero, and L2 radii r have E (r/eps)^d = 1/2."""
    run, batch = tiny_run(), tiny_batch(200)
    batch = replace(batch, x=0.4 + 0.2 * batch.x)
    change = (PgdTraining(norm=norm, eps=0.1, step=1e-9, k=1).batch(batch, run).x - batch.x).flatten(1)

    assert abs(float(change.mean())) < 5 * float(change.std()) / change.numel() ** 0.5
    if norm == "linf":
        assert float(change.var()) == pytest.approx(0.1**2 / 3, rel=0.05)
    else:
        assert float(((change.norm(dim=1) / 0.1) ** 64).mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("attack_mode", ["eval", "train"])
def test_network_is_left_as_it_was(attack_mode):
    run, batch = tiny_run(), tiny_batch()
    run.model.train()
    frozen = run.model.net.stem[1].eval()  # as a trick that freezes statistics would leave it
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    modes = []
    run.model.head.register_forward_pre_hook(lambda m, _args: modes.append(m.training))
    PgdTraining(attack_mode=attack_mode).batch(batch, run)

    assert modes == [attack_mode == "train"] * 10
    assert run.model.training
    assert not frozen.training
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items())
    assert all(p.grad is None for p in run.model.parameters())


@pytest.mark.parametrize(("norm", "size"), [("linf", 0.25 * 0.1), ("l2", 0.25 * 0.5)])
def test_one_step_by_default_is_a_quarter_of_the_radius(norm, size):
    run, batch = tiny_run(), tiny_batch()
    batch = replace(batch, x=0.4 + 0.2 * batch.x)  # nothing is clipped
    change = (PgdTraining(k=1, start="clean", norm=norm).batch(batch, run).x - batch.x).flatten(1)
    lengths = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)

    assert PgdTraining().k == 10
    torch.testing.assert_close(lengths, torch.full((8,), size), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("norm", "eps"), [("linf", None), ("linf", 0.05), ("l2", None)])
def test_random_starts_fill_the_ball_evenly(monkeypatch, norm, eps):
    """The largest change is uniform per pixel, or the d-th power of the length is; the radii are 0.1 and 0.5."""
    radius = eps or {"linf": 0.1, "l2": 0.5}[norm]
    starts, batch, run = [], tiny_batch(400), tiny_run()
    batch = replace(batch, x=0.4 + 0.2 * batch.x)  # nothing is clipped
    monkeypatch.setattr(module, "input_gradient", lambda _run, x, _y: starts.append(x) or torch.zeros_like(x))
    PgdTraining(norm=norm, eps=eps, k=1).batch(batch, run)
    change = ((starts[0] - batch.x) / radius).flatten(1).double()

    if norm == "linf":
        assert_uniform(change[:, :20].flatten(), -1, 1)
    else:
        lengths = change.norm(dim=1)
        assert_uniform(lengths**64, 0, 1)
        turn = torch.special.ndtr(change / lengths[:, None] * 64**0.5)  # a coordinate of a direction is nearly normal
        assert_uniform(turn[:, 0], 0, 1)
