"""Pre-activation residual blocks: nothing stands on the path of the shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, NotApplicable, Run, Trick, at
from harness.tricks.modules import residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class PreactResidual(nn.Module):
    """norm-relu-conv-norm-relu-conv plus shortcut; where shapes change it is a convolution of the activated input."""

    branch_end = "conv2"

    def __init__(self, block: nn.Module, first: bool, device: torch.device) -> None:
        super().__init__()
        conv1, conv2, shortcut = block.conv1, block.conv2, block.shortcut
        assert isinstance(conv1, nn.Conv2d)
        assert isinstance(conv2, nn.Conv2d)
        self.norm1: nn.Module = nn.Identity() if first else nn.BatchNorm2d(conv1.in_channels, device=device)
        self.act1: nn.Module = nn.Identity() if first else nn.ReLU()
        self.conv1 = conv1
        self.norm2: nn.Module = nn.BatchNorm2d(conv1.out_channels, device=device)
        self.act2: nn.Module = nn.ReLU()
        self.conv2 = conv2
        self.projects = isinstance(shortcut, nn.Sequential)
        self.shortcut: nn.Module = shortcut[0] if isinstance(shortcut, nn.Sequential) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        active = self.act1(self.norm1(x))
        out: Tensor = self.conv2(self.act2(self.norm2(self.conv1(active))))
        return out + self.shortcut(active if self.projects else x)  # type: ignore[no-any-return]


class Preact(Trick):
    """He et al. 2016, 1603.05027, section 4.1."""

    info: ClassVar = Info(
        name="preact",
        family="architecture",
        summary="norms and activations before the convolutions of residual blocks",
        paper="He, Zhang, Ren, Sun 2016, arXiv:1603.05027, section 4.1 and appendix",
        formula="x + conv(relu(norm(conv(relu(norm(x)))))), and a last relu(norm) before the pooling",
        expect=(
            "Lets nets of hundreds and a thousand layers train; at 110 layers on CIFAR-10 the paper gains a quarter of "
            "a point. In shallow nets near nothing, in either direction."
        ),
        differs=(
            "nothing: the first block has no norm and activation of its own, since the stem's stand before the split, "
            "and shortcuts that change the shape are 1x1 convolutions of the activated input. The baseline's "
            "convolutions keep their weights. Only for the program's own ResNets; timm has resnetv2."
        ),
        excludes={
            "bn_after_relu": "each decides where activations stand",
            "repvgg_reparam": "no norm follows the convolutions, which could be folded",
            "zero_gamma": "no norm ends the branches, and a scale of zero before an activation has no gradient",
        },
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Rebuild every block, and put the last norm before the pooling."""
        blocks = residual_blocks(model)
        pool = getattr(model.net, "pool", None)
        if not all(hasattr(block, "shortcut") for block in blocks) or not isinstance(pool, nn.Module):
            raise NotApplicable("rebuilds only digits_resnet and resnet8 to resnet56; use timm/resnetv2_... in place")
        paths = {module: path for path, module in model.net.named_modules()}
        for i, block in enumerate(blocks):
            model.net.set_submodule(paths[block], PreactResidual(block, i == 0, run.device))
        width = getattr(blocks[-1], "conv2").out_channels  # noqa: B009 (typed as a module)
        norm = nn.BatchNorm2d(width, device=run.device)
        setattr(model.net, "pool", nn.Sequential(norm, nn.ReLU(), pool))  # noqa: B010
        return model
