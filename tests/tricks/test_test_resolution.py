import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.evaluation.test_resolution import TestResolution as Resolution


class TestTestResolution(TrickConformance):
    trick = Resolution


def test_evaluation_sees_larger_images():
    seen = []
    predict = Resolution(scale=1.5).predictor(lambda x: seen.append(x) or x, tiny_run())
    predict(torch.full((2, 1, 8, 8), 0.3))
    torch.testing.assert_close(seen[0], torch.full((2, 1, 12, 12), 0.3))


def test_a_scale_that_rounds_to_the_full_size_is_refused():
    with pytest.raises(NoEffect, match="the full size"):
        Resolution(scale=1.03).prepare(tiny_run())
