import math

import pytest
import torch
from torch import nn

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.core.mixup import Mixup
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.arcface_head import ArcfaceHead, with_margin
from harness.tricks.stack import Stack


class TestArcfaceHead(TrickConformance):
    trick = ArcfaceHead


def applied(**params):
    run = tiny_run()
    run.model = ArcfaceHead(**params).model(run.model, run)
    return run


def angle(cosine, margin, easy=False):
    """The target's cosine with its margin, for one cosine at class 0 of two."""
    return float(with_margin(torch.tensor([[cosine, 0.0]]), torch.tensor([0]), margin, easy)[0, 0])


def test_margin_by_hand_on_the_target_alone():
    cosine = torch.tensor([[0.5, 0.2], [0.1, 0.0]])
    out = with_margin(cosine, torch.tensor([0, 1]), math.pi / 6)

    # acos(0.5) is 60 degrees, and 60 + 30 is a right angle; the second target goes from 90 to 120 degrees.
    torch.testing.assert_close(out, torch.tensor([[0.0, 0.2], [0.1, -0.5]]))


def test_falls_all_the_way_with_the_linear_continuation():
    angles = torch.linspace(0, math.pi, 200, dtype=torch.float64)
    cosine = torch.stack([angles.cos(), torch.zeros_like(angles)], 1)
    out = with_margin(cosine, torch.zeros(200, dtype=torch.long), 0.5)[:, 0]

    assert torch.all(out.diff() < 0)
    assert float(out[-1]) == pytest.approx(-1 - 0.5 * math.sin(0.5))
    assert angle(-1.0, 0.5) == pytest.approx(-1 - 0.5 * math.sin(0.5))


def test_easy_margin_spares_obtuse_angles():
    assert angle(-0.3, 0.5, easy=True) == pytest.approx(-0.3)
    assert angle(0.3, 0.5, easy=True) == pytest.approx(math.cos(math.acos(0.3) + 0.5))


def test_no_margin_is_cross_entropy_of_scaled_cosines():
    run, batch = applied(m=0.0), tiny_batch()
    logits = run.model(batch.x)
    loss = ArcfaceHead(m=0.0).criterion(logits, batch.y, run)

    torch.testing.assert_close(loss, soft_cross_entropy(logits, batch.y))


def test_loss_grows_with_the_margin_and_the_margin_with_progress():
    run, batch = applied(), tiny_batch()
    logits = run.model(batch.x)
    run.step = run.total_steps // 2
    losses = [ArcfaceHead(m=m).criterion(logits, batch.y, run) for m in (0.0, 0.2, 0.4)]
    assert torch.all(losses[0] < losses[1])
    assert torch.all(losses[1] < losses[2])

    trick = ArcfaceHead(m=0.4, warm=1.0)
    torch.testing.assert_close(trick.criterion(logits, batch.y, run), losses[1])  # half-way
    run.step = 0
    torch.testing.assert_close(trick.criterion(logits, batch.y, run), losses[0])


def test_logits_are_cosines_whatever_the_norms_of_features_and_weights():
    run, x = applied(s=10.0), tiny_batch().x
    logits, features = run.model.eval().forward_with_features(x)
    head = run.model.head
    expected = nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=-1)

    torch.testing.assert_close(logits, 10 * expected)
    torch.testing.assert_close(head(5 * features), logits)
    with torch.no_grad():
        head.weight *= 7
    torch.testing.assert_close(head(features), logits)


def test_keeps_the_baselines_weights_and_trains_them():
    plain, run, batch = tiny_run(), applied(), tiny_batch()
    assert torch.equal(plain.model.head.weight, run.model.head.weight)
    ArcfaceHead().criterion(run.model(batch.x), batch.y, run).sum().backward()
    assert run.model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_at_parallel_features(sign):
    cosine = torch.tensor([[sign, 0.0]], requires_grad=True)
    with_margin(cosine, torch.tensor([0]), 0.3).sum().backward()
    assert cosine.grad.isfinite().all()


def test_refuses_other_heads_and_mixing():
    run = tiny_run()
    run.model.net.set_submodule(run.model.head_path, nn.Sequential(run.model.head))
    with pytest.raises(NotApplicable, match="linear head"):
        ArcfaceHead().model(run.model, run)
    with pytest.raises(UserError, match="one right class"):
        Stack([ArcfaceHead(), Mixup()])
