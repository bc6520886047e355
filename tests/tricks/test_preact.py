import pytest
import torch
from torch import nn

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.architecture.preact import Preact, PreactResidual
from harness.tricks.blocks import behind_branches
from harness.tricks.contract import NotApplicable


class TestPreact(TrickConformance):
    trick = Preact


def applied(model="resnet8"):
    run = tiny_run(model=model)
    return Preact().model(run.model, run)


def test_the_path_of_the_shortcuts_is_the_identity():
    """Branches of zero: every block that keeps the shape passes on what it gets, negative values too."""
    model = applied("resnet20")
    blocks = [m for m in model.modules() if isinstance(m, PreactResidual)]
    assert len(blocks) == 9
    for block in blocks:
        nn.init.zeros_(block.conv2.weight)
    h = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.net.stage2[1](h), h)
    assert torch.equal(model.net.stage2[2](h), h)


def test_a_block_by_its_formula_with_the_baselines_convolutions():
    model, plain = applied().eval(), tiny_run(model="resnet8").model
    block, old = model.net.stage2[0], plain.net.stage2[0]
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scale = (1 + 1e-5) ** -0.5  # norms in evaluation mode, before they have seen anything
    active = (scale * x).relu()
    branch = old.conv2((scale * old.conv1(active)).relu())
    torch.testing.assert_close(block(x), branch + old.shortcut[0](active))


def test_the_first_block_has_no_activation_of_its_own_and_the_last_is_before_the_pooling():
    model = applied()
    assert isinstance(model.net.stage1[0].norm1, nn.Identity)
    assert isinstance(model.net.stage1[0].act1, nn.Identity)
    assert [type(m) for m in model.net.pool] == [nn.BatchNorm2d, nn.ReLU, nn.AdaptiveAvgPool2d]
    assert model.net.pool[0].num_features == 16
    assert model(tiny_batch().x).shape == (8, 10)


def test_gates_go_behind_the_last_convolution():
    model = applied()
    behind_branches(model, lambda channels: nn.Identity())
    assert isinstance(model.net.stage1[0].conv2[0], nn.Conv2d)


def test_timms_blocks_are_refused():
    run = tiny_run(channels=3, size=32, model="timm/resnet18", width=None)
    with pytest.raises(NotApplicable, match="resnetv2"):
        Preact().model(run.model, run)
