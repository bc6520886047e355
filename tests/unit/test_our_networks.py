import pytest
import torch
from torch import nn
from torch.nn import functional as F

from harness.models.build import build
from harness.sections import Model
from harness.testing import tiny_info, tiny_run
from harness.tricks import registry


def net_of(name, width=4, channels=3, size=32):
    return build(Model(name=name, width=width), tiny_info(channels=channels, size=size), 0)


def test_airbench_has_the_parameters_of_the_paper_once_whitening_is_there():
    run = tiny_run(channels=3, size=32, model="airbench", width=None)
    plain = sum(p.numel() for p in run.model.parameters())
    assert plain == 9 * (3 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) + 2 * (2 * 64 + 4 * 256) + 2560

    model = registry.make("whitening_init").model(run.model, run)
    count = sum(p.numel() for path, p in model.named_parameters() if not path.endswith("bias") or "norm" in path)
    assert 1.965e6 < count < 1.98e6


def test_airbench_is_groups_of_convolution_pool_norm_and_activation():
    model = net_of("airbench").eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    out = (x - 0.5) / 0.29
    for name in ("stage1", "stage2", "stage3"):
        first, _, norm1, _, second, norm2, _ = model.net.get_submodule(name)
        out = F.relu(norm1(F.max_pool2d(F.conv2d(out, first.weight, padding=1), 2)))
        out = F.relu(norm2(F.conv2d(out, second.weight, padding=1)))
    torch.testing.assert_close(model(x), out.amax((2, 3)) @ model.head.weight.T)
    assert out.shape == (2, 16, 4, 4)


def test_resnet18d_has_three_convolutions_in_its_stem_and_means_in_its_shortcuts():
    model = net_of("resnet18d").eval()
    convolutions = [m for m in model.net.stem if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride) for m in convolutions] == [
        (3, 2, (1, 1)), (2, 2, (1, 1)), (2, 4, (1, 1)),
    ]  # fmt: skip
    shortcut = model.net.stage2[0].shortcut
    x = torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shortcut(x), shortcut[2](F.conv2d(F.avg_pool2d(x, 2), shortcut[1].weight)))
    assert isinstance(model.net.stage1[0].shortcut, nn.Identity)


def test_resnet18d_is_resnet18_with_the_two_tricks():
    with_tricks = tiny_run(channels=3, size=32, model="resnet18", width=4)
    for name in ("resnet_c", "resnet_d"):
        with_tricks.model = registry.make(name).model(with_tricks.model, with_tricks)
    shapes = [[tuple(p.shape) for p in m.parameters()] for m in (with_tricks.model, net_of("resnet18d"))]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["resnet18d", "airbench"])
def test_weights_follow_the_seed_and_all_of_them_learn(name):
    info = tiny_info(channels=3, size=32)
    first, again, other = (build(Model(name=name, width=4), info, seed) for seed in (0, 0, 1))
    equal = [
        [torch.equal(a, b) for a, b in zip(first.parameters(), m.parameters(), strict=True)] for m in (again, other)
    ]
    assert all(equal[0])
    assert not all(equal[1])
    F.cross_entropy(first(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in first.parameters())
