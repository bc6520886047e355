import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_run
from harness.tricks.architecture.patchify_stem import PatchifyStem
from harness.tricks.contract import NotApplicable


class TestPatchifyStem(TrickConformance):
    trick = PatchifyStem


def test_each_unit_sees_its_own_patch():
    run = tiny_run()
    stem = PatchifyStem().model(run.model, run).net.stem[0]
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    out = stem(x)
    assert out.shape == (1, 4, 4, 4)
    torch.testing.assert_close(out[0, :, 1, 2], (stem.weight * x[0, :, 2:4, 4:6]).sum((1, 2, 3)))


def test_the_default_is_the_papers_share_of_the_side_and_pooling_goes():
    run = tiny_run(channels=3, size=224, model="timm/resnet18", width=None)
    net = PatchifyStem().model(run.model, run).net
    assert net.conv1.kernel_size == net.conv1.stride == (4, 4)
    assert isinstance(net.maxpool, nn.Identity)


def test_a_patch_larger_than_the_image_is_refused():
    run = tiny_run()
    with pytest.raises(NotApplicable, match="more than the image's side"):
        PatchifyStem(p=9).model(run.model, run)
