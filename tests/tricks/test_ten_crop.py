import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.contract import Invariances, NoEffect, NotApplicable
from harness.tricks.evaluation.ten_crop import TenCrop, corners


class TestTenCrop(TrickConformance):
    trick = TenCrop


def run_of(flip):
    return tiny_run(info=tiny_info()._replace(invariances=Invariances(flip=flip, shift=0.125, rotation=0, color=False)))


def test_corners_by_hand():
    assert corners(8, 6) == [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]


@pytest.mark.parametrize(("flip", "count"), [(True, 10), (False, 5)])
def test_crops_are_averaged_as_probabilities(flip, count):
    seen = []

    def predict(x):
        seen.append(x)
        return torch.stack([x[:, 0, 0, 0], torch.zeros(len(x))], 1)

    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    out = TenCrop(share=0.75).predictor(predict, run_of(flip))(x)
    assert len(seen) == count
    assert all(crop.shape == (3, 1, 6, 6) for crop in seen)
    torch.testing.assert_close(seen[4], x[..., 1:7, 1:7])
    firsts = [x[:, 0, 0, 0], x[:, 0, 0, 2], x[:, 0, 2, 0], x[:, 0, 2, 2], x[:, 0, 1, 1]]
    if flip:
        firsts += [x[:, 0, 0, 5], x[:, 0, 0, 7], x[:, 0, 2, 5], x[:, 0, 2, 7], x[:, 0, 1, 6]]
    expected = torch.stack([f.sigmoid() for f in firsts]).mean(0)
    torch.testing.assert_close(out.exp()[:, 0], expected)


def test_what_data_cannot_bear_is_refused():
    with pytest.raises(NotApplicable, match="moves the centre"):
        TenCrop(share=0.5).prepare(run_of(True))
    with pytest.raises(NoEffect, match="8 pixels"):
        TenCrop(share=0.97).prepare(run_of(True))
