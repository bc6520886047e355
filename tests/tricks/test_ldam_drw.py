import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.functional import effective_weights, soft_cross_entropy
from harness.tricks.losses.ldam_drw import LdamDrw, margins


class TestLdamDrw(TrickConformance):
    trick = LdamDrw
    data = {"imbalance": 0.2}  # noqa: RUF012


def run_of(*counts):
    return tiny_run(info=tiny_info(classes=len(counts))._replace(train_counts=counts))


def test_margins_by_hand():
    assert margins((16, 1, 81), 0.6) == pytest.approx((0.3, 0.6, 0.2))  # n^(-1/4) = 1/2, 1, 1/3
    assert margins((7, 7), 0.5) == (0.5, 0.5)


def test_the_loss_by_hand():
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = LdamDrw(max_m=0.6, s=10.0).criterion(torch.tensor([[8.0, 1.0], [8.0, 9.0]]), y, run_of(16, 1))
    expected = soft_cross_entropy(torch.tensor([[8.0 - 3.0, 1.0], [8.0, 9.0 - 6.0]]), y)
    torch.testing.assert_close(loss, expected)


def test_weights_begin_at_their_share_of_training():
    run, batch = run_of(9, 1), tiny_batch(4, classes=2)
    trick, weights = LdamDrw(start=0.8, beta=0.9), []
    for run.step in (0, 79, 80, 99):
        weights.append(trick.example_weights(batch, torch.zeros(4, 2), run).tolist())
    rare = effective_weights((9, 1), 0.9)
    assert run.total_steps == 100
    assert weights[0] == weights[1] == [1.0] * 4
    assert weights[2] == weights[3] == pytest.approx([rare[0], rare[1]] * 2)


def test_balanced_classes_are_refused():
    run = tiny_run()
    with pytest.raises(NoEffect, match="equally frequent"):
        LdamDrw().model(run.model, run)
