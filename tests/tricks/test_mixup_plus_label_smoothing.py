import pytest
import torch

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.core.label_smoothing import LabelSmoothing
from harness.tricks.mixing.mixup_plus_label_smoothing import MixupPlusLabelSmoothing, mixup_smoothed
from harness.tricks.stack import Stack

SWAP = torch.tensor([1, 0])


class TestMixupPlusLabelSmoothing(TrickConformance):
    trick = MixupPlusLabelSmoothing


@pytest.mark.parametrize(("weight", "right"), [(0.8, 0), (0.2, 1)])
def test_targets_are_the_papers(weight, right):
    """Of ten classes, eps / 10 on each wrong one and 1 - 9 eps / 10 on the closer image's."""
    batch = tiny_batch(n=2)
    mixed = mixup_smoothed(batch, SWAP, weight, 0.4)

    expected = torch.full((10,), 0.04)
    expected[right] = 0.64
    torch.testing.assert_close(mixed.y[0], expected)
    torch.testing.assert_close(mixed.x[0], weight * batch.x[0] + (1 - weight) * batch.x[1])


def test_smoothing_before_or_after_mixing_is_the_same():
    batch = tiny_batch(n=2)
    smooth = batch.y * 0.9 + 0.01
    torch.testing.assert_close(mixup_smoothed(batch, SWAP, 0.1, 0.1).y, smooth[SWAP])


def test_the_hook_smooths_the_target_of_the_closer_image():
    run, batch = tiny_run(), tiny_batch(n=2)
    batch.x[0], batch.x[1] = 0.0, 1.0
    trick = MixupPlusLabelSmoothing(eps=0.2)
    for _ in range(30):
        mixed = trick.batch(batch, run)
        assert mixed.y.argmax(1).tolist() == [round(v) for v in mixed.x[:, 0, 0, 0].tolist()]
        torch.testing.assert_close(mixed.y.max(1).values, torch.full((2,), 0.82))


def test_targets_are_not_smoothed_twice():
    with pytest.raises(UserError, match="smoothed twice"):
        Stack([MixupPlusLabelSmoothing(), LabelSmoothing()])
