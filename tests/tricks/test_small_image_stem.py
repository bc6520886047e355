import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.small_image_stem import SmallImageStem
from harness.tricks.contract import NoEffect


class TestSmallImageStem(TrickConformance):
    trick = SmallImageStem
    unfit = True  # the program's own networks have this stem


@pytest.mark.parametrize(("name", "before", "after"), [("timm/resnet18", 8, 32), ("torchvision/resnet18", 8, 32)])
def test_the_first_stage_sees_the_whole_image(name, before, after):
    sizes = []
    for trick in (None, SmallImageStem()):
        run = tiny_run(channels=3, size=32, model=name, width=None)
        model = run.model if trick is None else trick.model(run.model, run)
        model.net.layer1.register_forward_pre_hook(lambda _m, args: sizes.append(args[0].shape[-1]))
        assert model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert sizes == [before, after]
    assert model.net.conv1.weight.shape == (64, 3, 3, 3)
    assert isinstance(model.net.maxpool, nn.Identity)
    assert float(model.net.conv1.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_networks_for_small_images_are_refused():
    run = tiny_run()
    with pytest.raises(NoEffect, match="keeps the size"):
        SmallImageStem().model(run.model, run)
