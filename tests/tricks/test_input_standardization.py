import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.input_standardization import InputStandardization
from harness.tricks.contract import NotApplicable


class TestInputStandardization(TrickConformance):
    trick = InputStandardization


def seen_by_the_net(stats, channels=3):
    run = tiny_run(channels=channels)
    model = InputStandardization(stats=stats).model(run.model, run)
    x = tiny_batch(channels=channels).x
    inputs = []
    model.net.register_forward_pre_hook(lambda _m, args: inputs.append(args[0]))
    model(x)
    return x, inputs[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_none_feeds_pixels(channels):
    x, seen = seen_by_the_net("none", channels)
    assert torch.equal(seen, x)


@pytest.mark.parametrize("channels", [1, 3])
def test_symmetric_maps_black_to_minus_one_and_white_to_one(channels):
    x, seen = seen_by_the_net("symmetric", channels)
    torch.testing.assert_close(seen, 2 * x - 1)


def test_imagenet_by_hand():
    x, seen = seen_by_the_net("imagenet")
    torch.testing.assert_close(seen[:, 0], (x[:, 0] - 0.485) / 0.229)
    torch.testing.assert_close(seen[:, 2], (x[:, 2] - 0.406) / 0.225)


def test_convolution_with_batch_norm_is_blind_to_the_scale_of_its_input():
    """What makes the arm uneventful behind batch norm."""
    run = tiny_run()
    stem = run.model.net.stem.train()
    stem[1].eps = 1e-9
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stem(5 * x), stem(x), atol=1e-5, rtol=1e-5)


def test_imagenet_needs_colour():
    run = tiny_run()
    with pytest.raises(NotApplicable, match="colour"):
        InputStandardization(stats="imagenet").model(run.model, run)
