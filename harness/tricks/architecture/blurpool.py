"""Anti-aliased downsampling: blur before pixels are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import Choice, Info, ModelStage, NoEffect, Run, Trick, at
from harness.tricks.modules import check_forward, conv_norm_names, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Blur(nn.Module):
    """Channels smoothed by [1, 2, 1] / 4 along both axes, reflected at borders, of which every stride-th is kept."""

    kernel: Tensor

    def __init__(self, stride: int, device: torch.device) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0], device=device) / 4
        self.register_buffer("kernel", row[:, None] * row, persistent=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H / stride, W / stride), rounded up."""
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, [1] * 4, mode="reflect"), kernel, stride=self.stride, groups=channels)


class Blurpool(Trick):
    """Zhang 2019, 1904.11486, section 3."""

    info: ClassVar = Info(
        name="blurpool",
        family="architecture",
        summary="blur before every stride",
        paper="Zhang 2019, arXiv:1904.11486, section 3; place 'before' as in Composer",
        formula=(
            "after: relu(norm(conv(x, stride s))) becomes blur_s(relu(norm(conv(x, stride 1)))), a shortcut "
            "conv1x1(blur_s(x)); before: conv(blur_1(x), stride s); blur with [1, 2, 1] x [1, 2, 1] / 16"
        ),
        expect=(
            "Predictions that change less when the image moves; in the paper 0.3 to 0.7 points on ImageNet, and a "
            "point on Imagenette in short runs. Costs time, since convolutions run at the full size. On tiny maps the "
            "blur takes detail away."
        ),
        differs=(
            "In residual blocks, and before or behind max-pooling of the stem; strided first convolutions stay, as in "
            "the paper's ResNets. Layers of fewer than `channels` inputs stay as they are (Composer: 16)."
        ),
        cost=1.4,
        excludes={
            "bn_after_relu": "the blur goes behind activations, which are moved",
            "preact": "activations stand before the convolutions there",
            "repvgg_reparam": "a blurred branch cannot be folded into one convolution",
            "resnet_d": "each replaces the stride of shortcuts",
            "stride_conv_vs_maxpool": "each replaces every stride",
        },
    )
    place: Annotated[Literal["after", "before"], Choice(("after", "before"))] = "after"
    channels: Annotated[int, Field(ge=1), Choice((1, 16))] = 1

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Blur at every stride of the residual blocks, and of max-pooling."""
        count = sum(self._branch(block, run) + self._shortcut(block, run) for block in residual_blocks(model))
        pools = [(path, m) for path, m in model.net.named_modules() if isinstance(m, nn.MaxPool2d) and m.stride == 2]
        for path, pool in pools:
            pool.stride = 1
            model.net.set_submodule(path, nn.Sequential(pool, Blur(2, run.device)))
        if not count + len(pools):
            raise NoEffect(f"no convolution of {self.channels} inputs or more has a stride in a residual block")
        check_forward(model, run, run.data.size, "blurred maps of these sizes")
        return model

    def _strided(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Conv2d) and module.in_channels >= self.channels and module.stride[0] > 1

    def _branch(self, block: nn.Module, run: Run) -> int:
        found = [(conv, f"act{conv[-1]}") for conv, _ in conv_norm_names(block) if self._strided(getattr(block, conv))]
        for name, act in found:
            conv = getattr(block, name)
            if self.place == "before":
                setattr(block, name, nn.Sequential(Blur(1, run.device), conv))
            else:
                setattr(block, act, nn.Sequential(getattr(block, act), Blur(conv.stride[0], run.device)))
                conv.stride = (1, 1)
        return len(found)

    def _shortcut(self, block: nn.Module, run: Run) -> int:
        shortcut = getattr(block, "shortcut", None) or getattr(block, "downsample", None)
        if not isinstance(shortcut, nn.Module):
            return 0
        found = [(name, m) for name, m in shortcut.named_modules() if name and self._strided(m)]
        for name, conv in found:
            assert isinstance(conv, nn.Conv2d)
            stride = 1 if self.place == "before" else conv.stride[0]
            if self.place == "after":
                conv.stride = (1, 1)
            shortcut.set_submodule(name, nn.Sequential(Blur(stride, run.device), conv))
        return len(found)
