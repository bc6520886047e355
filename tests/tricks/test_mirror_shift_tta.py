import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import Invariances, NotApplicable
from harness.tricks.evaluation.mirror_shift_tta import MirrorShiftTta, diagonal


class TestMirrorShiftTta(TrickConformance):
    trick = MirrorShiftTta


def run_of(flip, shift=0.125):
    invariances = Invariances(flip=flip, shift=shift, rotation=0, color=False)
    return tiny_run(info=tiny_info()._replace(invariances=invariances))


def test_shifts_by_hand():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert diagonal(x, 1)[0, 0].tolist() == [[4, 3, 4], [1, 0, 1], [4, 3, 4]]  # down and right, reflected
    assert diagonal(x, -1)[0, 0].tolist() == [[4, 5, 4], [7, 8, 7], [4, 5, 4]]


@pytest.mark.parametrize("flip", [True, False])
def test_weights_by_hand(flip):
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    out = MirrorShiftTta().predictor(lambda z: z[:, 0, :, 3], run_of(flip))(x)

    def seen(z):
        return (z[:, 0, :, 3] + z.flip(-1)[:, 0, :, 3]) / 2 if flip else z[:, 0, :, 3]

    torch.testing.assert_close(out, seen(x) / 2 + seen(diagonal(x, 1)) / 4 + seen(diagonal(x, -1)) / 4)


def test_a_constant_prediction_stays_and_large_shifts_are_refused():
    predict = MirrorShiftTta().predictor(lambda z: torch.full((len(z), 3), 2.5), run_of(True))
    torch.testing.assert_close(predict(torch.rand(2, 1, 8, 8)), torch.full((2, 3), 2.5))
    with pytest.raises(NotApplicable, match="shift of 1 pixels"):
        MirrorShiftTta().predictor(lambda z: z, run_of(True, shift=0.1))
