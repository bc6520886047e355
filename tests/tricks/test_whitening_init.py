import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.whitening_init import Whitening, WhiteningInit, whitening_kernels


class TestWhiteningInit(TrickConformance):
    trick = WhiteningInit


@pytest.mark.parametrize(("channels", "side"), [(1, 2), (3, 2), (3, 3)])
def test_filtered_patches_are_white(channels, side):
    x = torch.rand(40, channels, 8, 8, generator=torch.Generator().manual_seed(0)).cumsum(-1) - 2
    kernels = whitening_kernels(x, side, 1e-9)
    d = channels * side**2
    out = F.conv2d(x, kernels[:d]).transpose(0, 1).flatten(1)

    assert kernels.shape == (2 * d, channels, side, side)
    torch.testing.assert_close(out @ out.T / out.shape[1], torch.eye(d), rtol=0, atol=2e-3)
    assert torch.equal(kernels[d:], -kernels[:d])


def test_the_largest_direction_comes_first_and_eps_bounds_the_smallest():
    x = torch.ones(2, 1, 4, 4)  # one direction, the mean of the patch, of second moment four
    kernels = whitening_kernels(x, 2, 0.25)
    torch.testing.assert_close(kernels[0].abs(), torch.full((1, 2, 2), 0.5 / 4.25**0.5))
    assert float(kernels[1].flatten().norm()) == pytest.approx(2.0, rel=1e-3)  # 1 / sqrt(0 + 0.25)


def test_the_layer_stands_before_the_stem_and_only_its_bias_learns():
    run = tiny_run()
    model = WhiteningInit().model(run.model, run)
    layer, first = model.net.stem[0]
    assert isinstance(layer, Whitening)
    assert first.weight.shape == (4, 8, 3, 3)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]

    x = model.normalize(run.train.images.permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(layer.kernel, whitening_kernels(x, 2, 5e-4))
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.kernel).relu())


def test_the_bias_stops_learning_at_its_share_of_training():
    run = tiny_run(epochs=10)
    trick = WhiteningInit(bias=0.3)
    run.model = trick.model(run.model, run)
    learns = []
    for run.epoch in range(10):
        trick.epoch_start(run)
        learns.append(run.model.net.stem[0][0].bias.requires_grad)
    assert learns == [True] * 3 + [False] * 7
