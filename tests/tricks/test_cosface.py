import pytest
import torch

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.core.mixup import Mixup
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.cosface import Cosface
from harness.tricks.stack import Stack


class TestCosface(TrickConformance):
    trick = Cosface


def test_by_hand_the_target_loses_its_margin():
    logits, y = torch.tensor([[5.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    loss = Cosface(s=10.0, m=0.3).criterion(logits, y, tiny_run())  # 5 - 3 against 1
    torch.testing.assert_close(loss, soft_cross_entropy(torch.tensor([[2.0, 1.0]]), y))


def test_no_margin_is_cross_entropy_of_scaled_cosines():
    run, batch = tiny_run(), tiny_batch()
    run.model = Cosface(s=7.0).model(run.model, run)
    logits, features = run.model.eval().forward_with_features(batch.x)
    cosine = torch.nn.functional.cosine_similarity(features[:, None], run.model.head.weight[None], dim=-1)
    torch.testing.assert_close(logits, 7 * cosine)
    torch.testing.assert_close(Cosface(m=0.0).criterion(logits, batch.y, run), soft_cross_entropy(logits, batch.y))


def test_mixing_is_refused():
    with pytest.raises(UserError, match="one right class"):
        Stack([Cosface(), Mixup()])
