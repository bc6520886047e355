import copy
import math

import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.sigmoid_range import SigmoidRange, soft_cap


class TestSigmoidRange(TrickConformance):
    trick = SigmoidRange


def test_by_hand_with_slope_one_at_zero_and_inside_the_range():
    z = torch.tensor([0.0, 2 * math.atanh(0.5), 100.0, -100.0], requires_grad=True)
    out = soft_cap(z, 2.0)
    out.sum().backward()

    torch.testing.assert_close(out.detach(), torch.tensor([0.0, 1.0, 2.0, -2.0]))
    torch.testing.assert_close(z.grad, torch.tensor([1.0, 0.75, 0.0, 0.0]))


def test_is_a_sigmoid_of_known_range():
    z = torch.linspace(-9, 9, 19)
    torch.testing.assert_close(soft_cap(z, 4.0), -4 + 8 * torch.sigmoid(2 * z / 4))


def test_a_large_cap_is_the_identity():
    z = torch.linspace(-9, 9, 19, dtype=torch.float64)
    torch.testing.assert_close(soft_cap(z, 1e6), z)


def test_loss_has_the_floor_that_the_card_states():
    logits = soft_cap(1e6 * (2 * torch.eye(10) - 1), 3.0)
    loss = soft_cross_entropy(logits, torch.eye(10))
    torch.testing.assert_close(loss, torch.full((10,), math.log(1 + 9 * math.exp(-6))))


def test_the_networks_logits_are_capped_in_both_modes_and_in_copies():
    plain, run = tiny_run(), tiny_run()
    run.model = SigmoidRange(cap=0.1).model(run.model, run)
    clone, x = copy.deepcopy(run.model), tiny_batch().x
    for mode in (True, False):
        expected = soft_cap(plain.model.train(mode)(x), 0.1)
        assert torch.equal(run.model.train(mode)(x), expected)
        assert torch.equal(clone.train(mode)(x), expected)
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
