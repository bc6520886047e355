import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.bootstrap import Bootstrap, bootstrap

LOGITS = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4
WRONG = torch.tensor([[0.0, 1.0]])


class TestBootstrap(TrickConformance):
    trick = Bootstrap


class TestHardBootstrap(TrickConformance):
    trick = Bootstrap
    params = {"belief": "hard"}  # noqa: RUF012


@pytest.mark.parametrize(("belief", "target"), [("soft", [0.3, 0.7]), ("hard", [0.4, 0.6])])
def test_by_hand(belief, target):
    loss = bootstrap(LOGITS, WRONG, 0.6, belief)  # 0.6 (0, 1) + 0.4 (3/4, 1/4) or 0.4 (1, 0)
    torch.testing.assert_close(loss, torch.tensor([target[0] * math.log(4 / 3) + target[1] * math.log(4.0)]))


@pytest.mark.parametrize(("belief", "beta"), [("soft", 0.95), ("hard", 0.8)])
def test_the_defaults_are_the_papers(belief, beta):
    run = tiny_run()
    ours, asked = (Bootstrap(belief=belief, beta=b).criterion(LOGITS, WRONG, run) for b in (None, beta))
    assert torch.equal(ours, asked)
    torch.testing.assert_close(bootstrap(LOGITS, WRONG, 1.0, belief), soft_cross_entropy(LOGITS, WRONG))


def test_the_soft_form_is_cross_entropy_with_less_entropy_in_value_and_slope():
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    y = torch.eye(3, dtype=torch.float64)[torch.arange(4) % 3]
    p = logits.softmax(-1)
    expected = 0.7 * soft_cross_entropy(logits, y) + 0.3 * -(p * p.log()).sum(-1)
    ours = bootstrap(logits, y, 0.7, "soft")

    torch.testing.assert_close(ours, expected)
    slopes = [torch.autograd.grad(z.sum(), logits, retain_graph=True)[0] for z in (ours, expected)]
    torch.testing.assert_close(*slopes)
