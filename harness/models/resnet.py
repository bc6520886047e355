"""Residual networks for small images (He et al. 2015, 1512.03385, section 4.2): 3x3 stem, no max-pool.

Convolutions have He-normal weights (fan out), norms start at one and zero, the head is uniform in
±1/sqrt(features), torch's own. No zero-gamma, no stochastic depth, no other silent trick.

The shortcuts differ from the paper's: where shapes change, they are 1x1 convolutions with a norm (its option B), and
section 4.2 pads with channels of zeros (option A). On CIFAR-10 resnet20 has 272,474 parameters for that, where the
paper's has 269,722, and resnet56 has 855,770, where it has 853,018.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution that keeps the size (or halves it), without bias."""
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


def draw(net: nn.Module) -> None:
    """Draw the weights of all convolutions, He-normal (fan out)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Residual(nn.Module):
    """conv-norm-relu-conv-norm plus shortcut, then relu. The shortcut is 1x1 where shapes change."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels_in, channels_out, stride)
        self.norm1: nn.Module = nn.BatchNorm2d(channels_out)
        self.act1: nn.Module = nn.ReLU()
        self.conv2 = conv3x3(channels_out, channels_out)
        self.norm2: nn.Module = nn.BatchNorm2d(channels_out)
        self.act2: nn.Module = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out = self.act1(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        return self.act2(out + self.shortcut(x))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pooling and a linear head.

    Args:
        channels: of the input images.
        classes: number of logits.
        stages: (width, stride, blocks) of each stage.
    """

    def __init__(self, channels: int, classes: int, stages: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        width = stages[0][0]
        self.stem = nn.Sequential(conv3x3(channels, width), nn.BatchNorm2d(width), nn.ReLU())
        self.stage_names: tuple[str, ...] = ("stem",)
        for i, (out, stride, blocks) in enumerate(stages, start=1):
            name = f"stage{i}"
            self.add_module(
                name,
                nn.Sequential(
                    *(Residual(width if b == 0 else out, out, stride if b == 0 else 1) for b in range(blocks))
                ),
            )
            self.stage_names += (name,)
            width = out
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head: nn.Module = nn.Linear(width, classes)
        draw(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to logits (N, K)."""
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
        return self.head(self.pool(x).flatten(1))  # type: ignore[no-any-return]


class ResNetD(ResNet):
    """The form D of He et al. 2018, 1812.01187, section 4.1, for small images: a stem of three convolutions, of which
    the first two have half the width, and means before the 1x1 convolution of shortcuts in place of its stride.

    The blocks have two 3x3 convolutions, in which the paper's form B has nothing to move.
    """

    def __init__(self, channels: int, classes: int, stages: Sequence[tuple[int, int, int]]) -> None:
        super().__init__(channels, classes, stages)
        width, half = stages[0][0], max(1, stages[0][0] // 2)
        layers: list[nn.Module] = []
        for channels_in, channels_out in ((channels, half), (half, half), (half, width)):
            layers += [conv3x3(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU()]
        self.stem = nn.Sequential(*layers)
        draw(self.stem)
        for block in self.modules():
            if isinstance(block, Residual) and isinstance(block.shortcut, nn.Sequential):
                conv, norm = block.shortcut
                assert isinstance(conv, nn.Conv2d)
                if conv.stride != (1, 1):
                    pool = nn.AvgPool2d((conv.stride[0], conv.stride[1]), ceil_mode=True)
                    conv.stride = (1, 1)
                    block.shortcut = nn.Sequential(pool, conv, norm)
