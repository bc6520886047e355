import pytest
import torch

from harness.experiment import Model
from harness.models.build import build
from harness.testing import TrickConformance, tiny_info, tiny_run
from harness.tricks.architecture.zero_gamma import ZeroGamma, last_gammas
from harness.tricks.contract import NoEffect


class TestZeroGamma(TrickConformance):
    trick = ZeroGamma


def test_blocks_start_as_the_identity():
    run = tiny_run(model="resnet20")
    ZeroGamma().init(run.model, run)
    blocks = [m for m in run.model.modules() if hasattr(m, "shortcut")]
    h = torch.rand(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    assert len(blocks) == 9
    for block in blocks[:3]:  # the first stage keeps the shape
        assert torch.equal(block.train()(h), h)


def test_only_the_last_norm_of_each_branch_changes():
    run = tiny_run()
    ZeroGamma().init(run.model, run)
    zeros = {name for name, p in run.model.named_parameters() if torch.all(p == 0) and name.endswith("weight")}
    assert zeros == {"net.stage1.0.norm2.weight", "net.stage2.0.norm2.weight"}


@pytest.mark.parametrize(("name", "norm", "count"), [("resnet18", "bn2", 8), ("resnet26", "bn3", 8)])
def test_finds_the_last_norms_of_timm(name, norm, count):
    model = build(Model(name=f"timm/{name}"), tiny_info(channels=3, size=32), 0)
    expected = [p for path, p in model.named_parameters() if path.endswith(f"{norm}.weight") and ".layer" in path]
    found = last_gammas(model)

    assert len(found) == count
    assert {id(p) for p in found} == {id(p) for p in expected}
    assert all(torch.all(p == 1) for p in found)  # the baseline has not switched it on


def test_plain_nets_have_nothing_to_zero():
    run = tiny_run()
    run.model.net = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(NoEffect, match="residual blocks"):
        ZeroGamma().init(run.model, run)
